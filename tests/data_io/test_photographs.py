"""Test lists of photographs that are known by their content."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_io.files.contents import content_digest
from data_io.photographs import Photographs, digests_of
from data_io.records import ImageList

LISTED = Photographs({"cup": ("aa", "bb"), "jar": ("cc",)}, {"pen": ("dd",)})


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


def test_a_later_training_knows_what_its_weights_were_trained_on() -> None:
    later = Photographs({"pen": ("dd",), "mug": ("aa",)}, {"jar": ("cc",)})
    chained = later.after(LISTED)
    assert (chained.trained, chained.held_out) == (later.trained, later.held_out)
    assert chained.before == {"cup": ("bb",), "jar": ("cc",)}
    assert chained.class_of_trained == {"dd": "pen", "aa": "mug", "bb": "cup", "cc": "jar"}
    assert chained.class_of_held_out == {"cc": "jar"}
    assert Photographs({"x": ("zz",)}).after(chained).before["jar"] == ("cc",)
    assert later.after(None) is later
