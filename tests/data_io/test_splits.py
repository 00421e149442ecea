from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_io.records import ImageList
from data_io.splits import dense_labels, k_fold, query_and_gallery, split_classes

FEW = settings(max_examples=60, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
LABELS = st.lists(st.integers(-3, 12), min_size=1, max_size=60)


def labelled(labels: list[int] | np.ndarray) -> ImageList:
    names = np.array([f"image{row}" for row in range(len(labels))])
    return ImageList(names, names, labels=np.asarray(labels), skipped=(("bad.jpg", "truncated"),))


def same(first: ImageList, second: ImageList) -> bool:
    return first.ids.tolist() == second.ids.tolist()


def is_in_order(part: ImageList) -> bool:
    rows = [int(name.removeprefix("image")) for name in part.ids]
    return rows == sorted(rows)


@FEW
@given(LABELS, st.floats(0.01, 0.99), st.sampled_from(["block", "random"]), SEEDS)
def test_split_classes_shares_no_class_and_loses_nothing(
    labels: list[int], dev_percent: float, how: str, seed: int
) -> None:
    classes = sorted(set(labels))
    assume(len(classes) >= 2)
    images = labelled(labels)
    train, dev = split_classes(images, dev_percent, how, seed)
    assert not set(train.labels) & set(dev.labels)
    assert sorted([*train.ids, *dev.ids]) == sorted(images.ids)
    assert len(set(dev.labels)) == min(max(round(dev_percent * len(classes)), 1), len(classes) - 1)
    assert is_in_order(train) and is_in_order(dev)
    assert (train.skipped, dev.skipped) == (images.skipped, ())
    assert same(dev, split_classes(images, dev_percent, how, seed)[1])
    if how == "block":
        places = [classes.index(label) for label in sorted(set(dev.labels))]
        assert places == list(range(places[0], places[0] + len(places)))


def test_the_block_moves_with_the_seed_over_all_places() -> None:
    images = labelled(np.repeat(np.arange(10), 2))
    starts = {int(split_classes(images, 0.3, seed=seed)[1].labels.min()) for seed in range(100)}
    assert starts == set(range(8))


def test_random_classes_are_not_a_block() -> None:
    dev = split_classes(labelled(np.arange(100)), 0.1, "random", seed=0)[1]
    assert np.ptp(np.unique(dev.labels)) > 9


def test_split_classes_says_what_is_wrong() -> None:
    images = labelled([0, 1, 1])
    with pytest.raises(ValueError, match=r"between 0 and 1 \(0.05 is 5 %\). Received 5"):
        split_classes(images, 5)
    with pytest.raises(ValueError, match="Received 0"):
        split_classes(images, 0)
    with pytest.raises(ValueError, match="at least 2 classes. Received 1"):
        split_classes(labelled([4, 4]), 0.5)
    with pytest.raises(ValueError, match="block or random. Received 'blok'"):
        split_classes(images, 0.5, "blok")
    with pytest.raises(ValueError, match="a split by class needs labels"):
        split_classes(ImageList(images.ids, images.paths), 0.5)


@FEW
@given(LABELS, st.integers(1, 40), st.integers(1, 8), SEEDS)
def test_query_and_gallery(
    labels: list[int], max_queries: int, max_gallery: int, seed: int
) -> None:
    counts = {label: labels.count(label) for label in labels}
    assume(max(counts.values()) > 1)
    images = labelled(labels)
    query, gallery = query_and_gallery(images, max_queries, max_gallery, seed)
    assert not set(query.ids) & set(gallery.ids)
    assert len(query) == min(max_queries, sum(count // 2 for count in counts.values()))
    assert is_in_order(query) and is_in_order(gallery)
    asked = {label: int((query.labels == label).sum()) for label in counts}
    for label, count in counts.items():
        kept = int((gallery.labels == label).sum())
        assert asked[label] <= count // 2
        assert kept == min(count - asked[label], max_gallery) >= 1
    open_classes = [asked[label] for label, count in counts.items() if asked[label] < count // 2]
    assert (
        max(asked.values()) - min(open_classes, default=max(asked.values())) <= 1
    )  # in turn: none is two ahead of one that could give
    again = query_and_gallery(images, max_queries, max_gallery, seed)
    assert same(query, again[0]) and same(gallery, again[1])


def test_query_and_gallery_by_hand() -> None:
    images = labelled([0, 0, 0, 0, 0, 1, 1, 2])
    query, gallery = query_and_gallery(images, 100, 100)
    assert sorted(query.labels) == [0, 0, 1] and sorted(gallery.labels) == [0, 0, 0, 1, 2]
    assert (query.skipped, gallery.skipped) == ((), images.skipped)
    query, gallery = query_and_gallery(images, 2, 1)
    assert sorted(query.labels) == [0, 1] and sorted(gallery.labels) == [0, 1, 2]


def test_which_images_become_queries_depends_on_the_seed() -> None:
    images = labelled(np.repeat(np.arange(5), 4))
    assert len({tuple(query_and_gallery(images, 5, 4, seed)[0].ids) for seed in range(10)}) > 5


def test_few_queries_do_not_always_come_from_the_first_classes() -> None:
    images = labelled(np.repeat(np.arange(50), 2))
    asked = {
        int(label)
        for seed in range(20)
        for label in query_and_gallery(images, 2, 2, seed)[0].labels
    }
    assert len(asked) > 10


def test_query_and_gallery_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="no class has two images: nothing to search and to find"):
        query_and_gallery(labelled([0, 1, 2]), 5, 5)
    with pytest.raises(ValueError, match="no class has two images"):
        query_and_gallery(labelled([]), 5, 5)
    with pytest.raises(ValueError, match="at least 1. Received 0 queries, 3 per class"):
        query_and_gallery(labelled([0, 0]), 0, 3)
    with pytest.raises(ValueError, match="query and gallery split needs labels"):
        query_and_gallery(ImageList(np.array(["a"]), np.array(["a"])), 1, 1)


@FEW
@given(LABELS, st.integers(2, 6), st.booleans(), SEEDS)
def test_k_fold_holds_each_image_out_once(
    labels: list[int], num_folds: int, stratified: bool, seed: int
) -> None:
    images = labelled(labels)
    assume(num_folds <= (len(labels) if stratified else len(set(labels))))
    folds = k_fold(images, num_folds, stratified, seed)
    assert len(folds) == num_folds
    assert sorted(name for _, dev in folds for name in dev.ids) == sorted(images.ids)
    for train, dev in folds:
        assert len(dev) and len(train)
        assert sorted([*train.ids, *dev.ids]) == sorted(images.ids)
        if not stratified:
            assert not set(train.labels) & set(dev.labels)
    if stratified:
        for label in set(labels):
            sizes = [int((dev.labels == label).sum()) for _, dev in folds]
            assert max(sizes) - min(sizes) <= 1
        assert max(len(dev) for _, dev in folds) - min(len(dev) for _, dev in folds) <= 1
    again = k_fold(images, num_folds, stratified, seed)
    assert all(same(first[1], second[1]) for first, second in zip(folds, again, strict=True))


def test_k_fold_blocks_are_contiguous() -> None:
    folds = k_fold(labelled([5, 1, 3, 1, 7, 9]), 2)
    assert [sorted(set(dev.labels)) for _, dev in folds] == [[1, 3, 5], [7, 9]]


def test_stratified_folds_depend_on_the_seed() -> None:
    images = labelled(np.repeat(np.arange(4), 10))
    assert len({tuple(k_fold(images, 5, True, seed)[0][1].ids) for seed in range(10)}) > 5


def test_k_fold_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="between 2 and the number of classes, 2. Received 3"):
        k_fold(labelled([0, 1, 1]), 3)
    with pytest.raises(ValueError, match="between 2 and the number of images, 3. Received 4"):
        k_fold(labelled([0, 1, 1]), 4, stratified=True)
    with pytest.raises(ValueError, match="Received 1"):
        k_fold(labelled([0, 1, 1]), 1)


@FEW
@given(LABELS)
def test_dense_labels(labels: list[int]) -> None:
    dense, originals = dense_labels(labelled(labels))
    assert sorted(set(dense.labels)) == list(range(len(originals)))
    assert originals[dense.labels].tolist() == labels
    assert (np.diff(originals) > 0).all()
    assert dense.skipped == labelled(labels).skipped and same(dense, labelled(labels))


def test_dense_labels_needs_labels() -> None:
    with pytest.raises(ValueError, match="dense labels needs labels; these images have none"):
        dense_labels(ImageList(np.array(["a"]), np.array(["a"])))
