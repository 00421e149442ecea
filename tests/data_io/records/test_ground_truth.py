from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.records import NO_LABEL, GroundTruth, ImageList


def images(names: list[str], labels: list[int] | None = None) -> ImageList:
    ids = np.array(names, str)
    paths = np.array([f"{name}.jpg" for name in names], str)
    return ImageList(ids, paths, labels=None if labels is None else np.array(labels))


def test_from_labels_finds_the_same_class_except_the_own_file() -> None:
    query = ImageList(
        np.array(["q0", "q1", "q2"]),
        np.array(["a.jpg", "q1.jpg", "q2.jpg"]),
        labels=np.array([5, 7, 9]),
    )
    truth = GroundTruth.from_labels(query, images(["a", "b", "c"], [5, 5, 7]))
    # a.jpg is the own file of q0, and the gallery has no image of class 9.
    assert [rows.tolist() for rows in truth.relevant] == [[1], [2], []]
    assert [rows.tolist() for rows in truth.junk] == [[0], [], []]
    assert truth.num_gallery == 3
    assert len(truth) == 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=15),
    st.lists(st.integers(0, 4), max_size=15),
    st.booleans(),
)
def test_from_labels_equals_a_loop_over_all_pairs(
    query_labels: list[int], gallery_labels: list[int], same_files: bool
) -> None:
    query_names = [f"f{row}" for row in range(len(query_labels))]
    gallery_names = [f"f{row}" if same_files else f"g{row}" for row in range(len(gallery_labels))]
    truth = GroundTruth.from_labels(
        images(query_names, query_labels), images(gallery_names, gallery_labels)
    )
    for row, (name, label) in enumerate(zip(query_names, query_labels, strict=True)):
        own_rows = {i for i, other in enumerate(gallery_names) if other == name}
        same_class = {i for i, other in enumerate(gallery_labels) if other == label}
        assert set(truth.junk[row]) == own_rows
        assert set(truth.relevant[row]) == same_class - own_rows


def test_images_without_a_label_are_never_relevant() -> None:
    query = images(["q0", "q1"], [5, NO_LABEL])
    truth = GroundTruth.from_labels(query, images(["a", "b", "c"], [NO_LABEL, 5, NO_LABEL]))
    assert [rows.tolist() for rows in truth.relevant] == [[1], []]
    assert truth.num_gallery == 3


def test_the_given_junk_replaces_the_own_photograph() -> None:
    listed = images(["a", "b", "c"], [0, 0, 0])
    truth = GroundTruth.from_labels(listed, listed, [np.array([1]), np.array([]), np.array([0])])
    assert [rows.tolist() for rows in truth.relevant] == [[0, 2], [0, 1, 2], [1, 2]]


def test_from_labels_refuses_images_without_labels() -> None:
    with pytest.raises(ValueError, match="ground truth needs labels"):
        GroundTruth.from_labels(images(["a"]), images(["a", "b", "c"], [0, 1, 2]))


def test_ground_truth_refuses_wrong_rows() -> None:
    query_ids = np.array(["q"])
    with pytest.raises(ValueError, match=r"rows of q must be in 0..2"):
        GroundTruth(query_ids, 3, (np.array([3]),), (np.array([]),))
    with pytest.raises(ValueError, match=r"rows of q must be in 0..2"):
        GroundTruth(query_ids, 3, (np.array([]),), (np.array([-1]),))
    with pytest.raises(ValueError, match="q: a gallery row is both relevant and junk"):
        GroundTruth(query_ids, 3, (np.array([1, 2]),), (np.array([2]),))
    message = "one relevant and one junk list per query. Received 0 and 1 for 1"
    with pytest.raises(ValueError, match=message):
        GroundTruth(query_ids, 3, (), (np.array([2]),))
