from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_io.records import ImageList
from data_io.splits import (
    dense_labels,
    few_of_each_class,
    query_and_gallery,
    split_classes,
    stratified_folds,
)

FEW = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
LABELS = st.lists(st.integers(0, 12), min_size=1, max_size=60)


def labelled(labels: list[int] | np.ndarray) -> ImageList:
    names = np.array([f"image{row}" for row in range(len(labels))])
    return ImageList(names, names, labels=np.asarray(labels), skipped=(("bad.jpg", "truncated"),))


def same(first: ImageList, second: ImageList) -> bool:
    return first.ids.tolist() == second.ids.tolist()


def is_in_order(part: ImageList) -> bool:
    rows = [int(name.removeprefix("image")) for name in part.ids]
    return rows == sorted(rows)


@FEW
@given(LABELS, st.floats(0.01, 0.99), st.booleans(), SEEDS)
def test_split_classes_shares_no_class_and_loses_no_image(
    labels: list[int], dev_share: float, is_block: bool, seed: int
) -> None:
    classes = sorted(set(labels))
    assume(len(classes) >= 2)
    images = labelled(labels)
    train, dev = split_classes(images, dev_share, is_block, seed)
    assert not set(train.labels) & set(dev.labels)
    assert sorted([*train.ids, *dev.ids]) == sorted(images.ids)
    assert len(set(dev.labels)) == min(max(round(dev_share * len(classes)), 1), len(classes) - 1)
    assert is_in_order(train)
    assert is_in_order(dev)
    assert (train.skipped, dev.skipped) == (images.skipped, ())
    assert same(dev, split_classes(images, dev_share, is_block, seed)[1])
    if is_block:
        places = [classes.index(label) for label in sorted(set(dev.labels))]
        assert places == list(range(places[0], places[0] + len(places)))


def test_the_seed_moves_the_block_to_all_places() -> None:
    images = labelled(np.repeat(np.arange(10), 2))
    starts = {int(split_classes(images, 0.3, seed=seed)[1].labels.min()) for seed in range(100)}
    assert starts == set(range(8))


def test_random_classes_are_not_a_block() -> None:
    dev = split_classes(labelled(np.arange(100)), 0.1, is_block=False)[1]
    assert np.ptp(np.unique(dev.labels)) > 9


def test_split_classes_refuses_one_class_and_images_without_labels() -> None:
    images = labelled([0, 1, 1])
    with pytest.raises(ValueError, match="at least 2 classes. Received 1"):
        split_classes(labelled([4, 4]), 0.5)
    with pytest.raises(ValueError, match="a split by class needs labels"):
        split_classes(ImageList(images.ids, images.paths), 0.5)


@FEW
@given(LABELS, st.integers(1, 40), st.integers(1, 8), SEEDS)
def test_query_and_gallery_keep_their_limits(
    labels: list[int], max_queries: int, max_gallery: int, seed: int
) -> None:
    counts = {label: labels.count(label) for label in labels}
    assume(max(counts.values()) > 1)
    images = labelled(labels)
    query, gallery = query_and_gallery(images, max_queries, max_gallery, seed)
    assert not set(query.ids) & set(gallery.ids)
    assert len(query) == min(max_queries, sum(count // 2 for count in counts.values()))
    assert is_in_order(query)
    assert is_in_order(gallery)
    num_queries = {label: int((query.labels == label).sum()) for label in counts}
    for label, count in counts.items():
        num_in_gallery = int((gallery.labels == label).sum())
        assert num_queries[label] <= count // 2
        assert num_in_gallery == min(count - num_queries[label], max_gallery) >= 1
    # Classes take turns: none is two queries ahead of a class that could give another one.
    most = max(num_queries.values())
    not_full = [num_queries[label] for label in counts if num_queries[label] < counts[label] // 2]
    assert most - min(not_full, default=most) <= 1
    repeated = query_and_gallery(images, max_queries, max_gallery, seed)
    assert same(query, repeated[0])
    assert same(gallery, repeated[1])


def test_query_and_gallery_by_hand() -> None:
    images = labelled([0, 0, 0, 0, 0, 1, 1, 2])
    query, gallery = query_and_gallery(images, 100, 100)
    assert sorted(query.labels) == [0, 0, 1]
    assert sorted(gallery.labels) == [0, 0, 0, 1, 2]
    assert (query.skipped, gallery.skipped) == ((), images.skipped)
    query, gallery = query_and_gallery(images, 2, 1)
    assert sorted(query.labels) == [0, 1]
    assert sorted(gallery.labels) == [0, 1, 2]


def test_which_images_become_queries_depends_on_the_seed() -> None:
    images = labelled(np.repeat(np.arange(5), 4))
    assert len({tuple(query_and_gallery(images, 5, 4, seed)[0].ids) for seed in range(10)}) > 5


def test_few_queries_come_from_random_classes() -> None:
    images = labelled(np.repeat(np.arange(50), 2))
    queries = [query_and_gallery(images, 2, 2, seed)[0] for seed in range(20)]
    assert len({int(label) for query in queries for label in query.labels}) > 10


def test_query_and_gallery_refuses_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="no class has two images: nothing to search and to find"):
        query_and_gallery(labelled([0, 1, 2]), 5, 5)
    with pytest.raises(ValueError, match="no class has two images"):
        query_and_gallery(labelled([]), 5, 5)
    with pytest.raises(ValueError, match="at least 1. Received 0 queries, 3 per class"):
        query_and_gallery(labelled([0, 0]), 0, 3)
    with pytest.raises(ValueError, match="query and gallery split needs labels"):
        query_and_gallery(ImageList(np.array(["a"]), np.array(["a"])), 1, 1)


@FEW
@given(LABELS, st.integers(2, 6), SEEDS)
def test_stratified_folds_have_each_image_in_one_dev_list(
    labels: list[int], num_folds: int, seed: int
) -> None:
    images = labelled(labels)
    assume(num_folds <= len(labels))
    folds = stratified_folds(images, num_folds, seed)
    assert len(folds) == num_folds
    assert sorted(name for _, dev in folds for name in dev.ids) == sorted(images.ids)
    for train, dev in folds:
        assert len(dev)
        assert len(train)
        assert sorted([*train.ids, *dev.ids]) == sorted(images.ids)
    for label in set(labels):
        sizes = [int((dev.labels == label).sum()) for _, dev in folds]
        assert max(sizes) - min(sizes) <= 1
    sizes = [len(dev) for _, dev in folds]
    assert max(sizes) - min(sizes) <= 1
    repeated = stratified_folds(images, num_folds, seed)
    assert all(same(first[1], second[1]) for first, second in zip(folds, repeated, strict=True))


def test_stratified_folds_depend_on_the_seed() -> None:
    images = labelled(np.repeat(np.arange(4), 10))
    assert len({tuple(stratified_folds(images, 5, seed)[0][1].ids) for seed in range(10)}) > 5


def test_stratified_folds_refuses_a_wrong_number_of_folds() -> None:
    with pytest.raises(ValueError, match="between 2 and the number of images, 3. Received 4"):
        stratified_folds(labelled([0, 1, 1]), 4, 0)
    with pytest.raises(ValueError, match="Received 1"):
        stratified_folds(labelled([0, 1, 1]), 1, 0)


@FEW
@given(LABELS)
def test_dense_labels_run_from_0_and_give_back_the_originals(labels: list[int]) -> None:
    dense, originals = dense_labels(labelled(labels))
    assert sorted(set(dense.labels)) == list(range(len(originals)))
    assert originals[dense.labels].tolist() == labels
    assert (np.diff(originals) > 0).all()
    assert dense.skipped == labelled(labels).skipped
    assert same(dense, labelled(labels))


def test_dense_labels_refuses_images_without_labels() -> None:
    with pytest.raises(ValueError, match="a classifier needs labels; these images have none"):
        dense_labels(ImageList(np.array(["a"]), np.array(["a"])))


@FEW
@given(LABELS, st.integers(1, 60), st.integers(2, 9), SEEDS)
def test_few_of_each_class_keeps_the_limits_and_leaves_no_image_alone(
    labels: list[int], max_images: int, max_per_class: int, seed: int
) -> None:
    sizes = np.bincount(labels)
    assume(np.sum(sizes >= 2) >= 2)
    images = labelled(labels)
    few = few_of_each_class(images, max_images, max_per_class, seed)
    counts = np.bincount(few.labels, minlength=len(sizes))
    expected = np.minimum(sizes, max_per_class)
    assert all(count in (0, size) for count, size in zip(counts, expected))
    assert not np.any(counts == 1) and np.sum(counts > 0) >= 2
    assert np.sum(counts > 0) == 2 or len(few) <= max_images
    assert is_in_order(few) and few.skipped == ()
    assert same(few, few_of_each_class(images, max_images, max_per_class, seed))


def test_few_of_each_class_takes_all_that_fit() -> None:
    labels = [0, 0, 0, 1, 1, 2, 3, 3]
    assert few_of_each_class(labelled(labels), 8, 2).labels.tolist() == [0, 0, 1, 1, 3, 3]


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 0, 1, 2], [0, 1]])
def test_few_of_each_class_needs_two_classes_with_two_images(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="at least 2 classes with two or more images each"):
        few_of_each_class(labelled(labels), 8, 2)
