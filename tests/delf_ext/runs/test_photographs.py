"""Test the list of a run's photographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_io.photographs import Photographs
from delf_ext.runs.photographs import PHOTOGRAPHS, read_photographs, write_photographs

LISTED = Photographs({"cup": ("aa", "bb"), "jar": ("cc",)}, {"pen": ("dd",)}, {"old": ("ee",)})


def test_photographs_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_photographs(tmp_path, LISTED)
    assert read_photographs(tmp_path) == LISTED


def test_an_earlier_run_lists_no_photographs(tmp_path: Path) -> None:
    assert read_photographs(tmp_path) is None


@pytest.mark.parametrize("damage", ['"aa"', '"trained"', "{"])
def test_a_damaged_list_is_an_error(tmp_path: Path, damage: str) -> None:
    write_photographs(tmp_path, LISTED)
    text = (tmp_path / PHOTOGRAPHS).read_text().replace(damage, '"zz"')
    (tmp_path / PHOTOGRAPHS).write_text(text)
    with pytest.raises(ValueError, match=r"photographs.json: not the list of a run's photographs"):
        read_photographs(tmp_path)
