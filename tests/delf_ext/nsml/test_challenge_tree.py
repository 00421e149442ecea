from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from delf_ext.nsml.challenge_tree import folder_names


@given(st.lists(st.text(max_size=80), unique=True, max_size=8))
def test_folder_names_are_valid_and_differ(class_names: list[str]) -> None:
    names = folder_names(class_names)
    assert len({name.casefold() for name in names}) == len(class_names)
    for name in names:
        assert name not in (".", "..")
        assert not name.startswith(".")
        assert not set(name) & set('/\\:*?"<>|\0\n')
        assert 0 < len(os.fsencode(name)) <= 255


def test_valid_folder_names_are_kept() -> None:
    kept = ["12", "Arla-Standard-Milk", "oat milk", "김치", "a.b_c"]
    assert folder_names(kept) == kept
