from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.records import NO_LABEL, ImageList

FEW = settings(max_examples=60, deadline=None)


def test_image_list_has_fixed_types_and_is_frozen() -> None:
    ids = np.array(["a", "b", "c"])
    images = ImageList(ids, np.char.add(ids, ".jpg"), labels=np.array([2, 0, 1], np.int8))
    assert len(images) == 3
    assert images.ids.dtype.kind == "U"
    assert images.paths.dtype.kind == "U"
    assert images.labels.dtype == np.int64
    for column in (images.ids, images.paths, images.labels):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = column[1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        images.ids = images.paths


def test_image_list_does_not_change_with_the_arrays_it_was_made_from() -> None:
    labels = np.array([1, 2, 3], np.int64)
    ids = np.array(["a", "b", "c"])
    all_images = ImageList(ids, ids, labels=labels)
    first_images = ImageList(ids[:2], ids[:2], labels=labels[:2])
    labels[:] = 9
    ids[:] = "x"
    assert all_images.labels.tolist() == [1, 2, 3]
    assert first_images.labels.tolist() == [1, 2]
    assert all_images.ids.tolist() == ["a", "b", "c"]
    assert first_images.paths.tolist() == ["a", "b"]
    # The caller can still write to its own array.
    assert labels.flags.writeable


def test_image_list_refuses_columns_of_another_length_and_repeated_ids() -> None:
    ids = np.array(["a", "b"])
    paths_message = r"paths must have one entry per id. Received \(1,\) for \(2,\) ids"
    with pytest.raises(ValueError, match=paths_message):
        ImageList(ids, ids[:1])
    with pytest.raises(ValueError, match="labels must have one entry per id"):
        ImageList(ids, ids, labels=np.zeros(3, int))
    with pytest.raises(ValueError, match="groups must have one entry per id"):
        ImageList(ids, ids, groups=np.array(["x"]))
    with pytest.raises(ValueError, match="image ids must be unique. Received twice: b"):
        ImageList(np.array(["a", "b", "b"]), np.array(["1", "2", "3"]))


@pytest.mark.parametrize(
    "columns", [{}, {"labels": np.zeros(0, int), "groups": np.zeros(0, "<U1")}]
)
def test_image_list_can_be_empty(columns: dict[str, np.ndarray]) -> None:
    empty = ImageList(np.zeros(0), np.zeros(0), **columns)
    assert len(empty) == 0
    assert empty.ids.dtype.kind == "U"
    assert len(empty.take([])) == 0


@FEW
@given(st.data())
def test_take_keeps_the_columns_together(data: st.DataObject) -> None:
    num_images = data.draw(st.integers(1, 12))
    ids = np.array([f"i{row}" for row in range(num_images)])
    images = ImageList(
        ids,
        np.char.add(ids, ".jpg"),
        np.arange(num_images) * 10,
        np.char.add("group of ", ids),
        (("bad", "why"),),
    )
    num_taken = data.draw(st.integers(0, num_images))
    rows = data.draw(st.permutations(range(num_images)))[:num_taken]
    for taken in (images.take(rows), images.take(np.array(rows, int))):
        assert taken.ids.tolist() == [f"i{row}" for row in rows]
        assert taken.paths.tolist() == [f"i{row}.jpg" for row in rows]
        assert taken.labels.tolist() == [10 * row for row in rows]
        assert taken.groups.tolist() == [f"group of i{row}" for row in rows]
        assert taken.skipped == (("bad", "why"),)
    mask = np.isin(np.arange(num_images), rows)
    assert images.take(mask, skipped=()).ids.tolist() == ids[sorted(rows)].tolist()
    assert images.take(mask, skipped=[("x", "y")]).skipped == (("x", "y"),)


def test_skip_moves_images_to_skipped() -> None:
    ids = np.array(["a", "b", "c"])
    images = ImageList(ids, np.char.add(ids, ".jpg"), skipped=(("d.jpg", "gone"),))
    others = images.skip(["", "truncated", ""])
    assert others.ids.tolist() == ["a", "c"]
    assert others.skipped == (("d.jpg", "gone"), ("b.jpg", "truncated"))


def test_images_without_a_label_are_known_and_can_be_left_out() -> None:
    images = ImageList(["a", "b", "c"], ["a.jpg", "b.jpg", "c.jpg"], [4, NO_LABEL, 0])
    assert images.has_label.tolist() == [True, False, True]
    assert images.labelled().ids.tolist() == ["a", "c"]
    assert images.partial_labels("a test").tolist() == [4, -1, 0]
    with pytest.raises(ValueError, match="training needs a label for each image; 1 of 3 have none"):
        images.known_labels("training")
    unlabelled = ImageList(["a"], ["a.jpg"])
    assert unlabelled.labelled() is unlabelled and unlabelled.has_label.tolist() == [False]
