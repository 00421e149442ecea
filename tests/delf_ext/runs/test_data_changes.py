from __future__ import annotations

import pytest

from data_io.photographs import Digests, Photographs
from delf_ext.runs.data_changes import DataChanges, changes_between

BEFORE = Photographs(trained={"cup": ("1", "2", "3"), "jar": ("4", "5")}, held_out={"pen": ("6",)})
SAME: Digests = {"cup": ("1", "2", "3"), "jar": ("4", "5"), "pen": ("6",)}


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (SAME, ""),
        ({"pen": ("6",), "jar": ("5", "4"), "cup": ("3", "1", "2")}, ""),
        (
            {"jar": ("4", "5"), "mug": ("1", "2", "3"), "pen": ("6",)},
            "class cup is now named mug",
        ),
        (
            {"jar": ("4", "5"), "mug": ("1", "2", "9"), "pen": ("6",)},
            "class cup is now named mug; class mug: 1 image replaced",
        ),
        (
            {"jar": ("4", "5"), "mug": ("1", "8", "9"), "pen": ("6",)},
            "class cup is lost; class mug is new (3 images)",
        ),
        ({**SAME, "cup": ("1", "2", "9")}, "class cup: 1 image replaced"),
        ({**SAME, "jar": ("5",)}, "class jar: 1 image lost"),
        ({**SAME, "jar": ("5", "7", "8")}, "class jar: 1 image lost, 2 images added"),
        ({**SAME, "jar": ()}, "class jar is lost"),
        # Two classes exchanged their names: names decide.
        (
            {**SAME, "cup": ("4", "5"), "jar": ("1", "2", "3")},
            "class cup: 3 images lost, 2 images ",
        ),
    ],
)
def test_changes_are_named(now: Digests, text: str) -> None:
    changes = changes_between(BEFORE, now)
    assert str(changes).startswith(text) and bool(changes) == bool(text)
    assert text or str(changes) == ""


def test_held_out_images_of_a_fold_are_in_their_class() -> None:
    before = Photographs(trained={"cup": ("1", "2")}, held_out={"cup": ("3",)})
    assert not changes_between(before, {"cup": ("1", "3", "2")})


def test_long_lists_are_cut() -> None:
    assert str(DataChanges(lost=tuple("abcdefg"))).endswith("class e is lost; and 2 more changes")
