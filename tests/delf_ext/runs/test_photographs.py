"""Test the list of a run's photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_io.contents import content_digest
from data_io.records import ImageList
from delf_ext.runs.photographs import (
    PHOTOGRAPHS,
    Photographs,
    digests_of,
    read_photographs,
    write_photographs,
)

LISTED = Photographs({"cup": ("aa", "bb"), "jar": ("cc",)}, {"pen": ("dd",)})


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


def test_the_digest_depends_on_classes_and_contents_and_not_on_order() -> None:
    same = Photographs({"jar": ("cc",), "cup": ("bb", "aa")}, {"pen": ("dd",)})
    assert same.digest == LISTED.digest
    others = [
        Photographs({"cup": ("aa", "bb"), "jug": ("cc",)}, {"pen": ("dd",)}),
        Photographs({"cup": ("aa", "bb"), "jar": ("ee",)}, {"pen": ("dd",)}),
        Photographs({"cup": ("aa", "bb"), "jar": ("cc",), "pen": ("dd",)}),
    ]
    assert len({LISTED.digest, *(other.digest for other in others)}) == 4


def test_digests_are_listed_by_class(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    paths = np.array([str(tmp_path / name) for name in "abc"])
    images = ImageList(np.array(list("abc")), paths, np.array([1, 0, 1]))
    a, b, c = map(content_digest, paths)
    assert digests_of(images, ("cup", "jar")) == {"jar": (a, c), "cup": (b,)}
    assert digests_of(ImageList(np.array([]), np.array([])), ()) == {}
