from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_io.sampling import epoch_batches

SAMPLERS = ("shuffled", "pairs", "classes")

LABELS = st.lists(st.integers(-2, 6), min_size=1, max_size=50)
SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.integers(0, 300)
EVEN = st.integers(1, 5).map(lambda half: 2 * half)
ANY = st.integers(2, 10)
ODD = st.integers(1, 4).map(lambda half: 2 * half + 1)


@st.composite
def class_tasks(
    draw: st.DrawFn,
    sizes: st.SearchStrategy[int] = EVEN,
) -> tuple[np.ndarray, int, int]:
    """Return labels of at least P classes, P and K."""
    num_classes = draw(st.integers(2, 7))
    per_class = draw(sizes)
    counts = draw(st.lists(st.integers(1, 9), min_size=num_classes, max_size=num_classes + 5))
    return np.repeat(np.arange(len(counts)) * 3 - 4, counts), num_classes, per_class


def same_class(labels: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """Return bool [steps, pairs]: whether the pairs (0, 1), (2, 3), ... are of one class."""
    return labels[batches[:, 0::2]] == labels[batches[:, 1::2]]


# --- every sampler


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(seed=SEEDS, epoch=EPOCHS, num_images=st.integers(60, 100))
def test_batches_depend_only_on_seed_and_epoch(
    sampler: str,
    seed: int,
    epoch: int,
    num_images: int,
) -> None:
    labels = np.arange(num_images) % 9
    batches = epoch_batches(labels, 8, seed, epoch, sampler, 2)
    assert batches.shape == (-(-num_images // 8), 8)
    assert batches.dtype == np.int64
    assert batches.min() >= 0
    assert batches.max() < num_images
    # The global random state must not matter.
    np.random.seed(1)
    np.testing.assert_array_equal(batches, epoch_batches(labels, 8, seed, epoch, sampler, 2))
    assert not np.array_equal(batches, epoch_batches(labels, 8, seed, epoch + 1, sampler, 2))
    assert not np.array_equal(batches, epoch_batches(labels, 8, seed + 1, epoch, sampler, 2))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_batches_do_not_depend_on_the_values_of_the_labels(sampler: str) -> None:
    labels = np.arange(40) % 5
    expected = epoch_batches(labels, 8, 0, 0, sampler)
    np.testing.assert_array_equal(epoch_batches(labels * 7 - 3, 8, 0, 0, sampler), expected)
    np.testing.assert_array_equal(epoch_batches(labels.tolist(), 8, 0, 0, sampler), expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_epoch_of_the_challenge_takes_well_under_a_second(sampler: str) -> None:
    labels = np.random.default_rng(0).integers(0, 1000, 7104)
    start = time.process_time()
    assert epoch_batches(labels, 64, 0, 0, sampler).shape == (111, 64)
    assert time.process_time() - start < 0.5


def test_batches_of_more_classes_than_there_are_are_refused() -> None:
    message = "batches of 3 classes x 2 images need 3 classes; there are 2 to train on."
    with pytest.raises(ValueError) as caught:
        epoch_batches(np.array([0, 1]), 6, 0, 0, "classes", 2)
    assert str(caught.value).startswith(message)


# --- shuffled


@given(LABELS, st.integers(1, 60), SEEDS)
def test_shuffled_has_each_image_once_and_fills_the_last_batch_from_the_start(
    labels: list[int],
    batch_size: int,
    seed: int,
) -> None:
    rows = epoch_batches(np.array(labels), batch_size, seed, 0, "shuffled").ravel()
    assert sorted(rows[: len(labels)]) == list(range(len(labels)))
    repeated = rows[len(labels) :]
    np.testing.assert_array_equal(repeated, np.resize(rows[: len(labels)], len(repeated)))


# --- pairs


@given(LABELS.filter(lambda labels: len(set(labels)) > 1), st.integers(1, 12), SEEDS)
def test_every_second_pair_is_of_one_class(
    labels: list[int],
    pairs_per_batch: int,
    seed: int,
) -> None:
    batches = epoch_batches(np.array(labels), 2 * pairs_per_batch, seed, 0, "pairs")
    same = same_class(np.array(labels), batches)
    np.testing.assert_array_equal(same.ravel(), np.arange(same.size) % 2 == 0)
    anchors = batches[:, 0::2].ravel()
    # The anchors are all images once before one is repeated.
    assert len(set(anchors)) == min(len(anchors), len(labels))
    twice = (batches[:, 0::2] == batches[:, 1::2]) & same
    sizes = Counter(labels)
    assert all((sizes[labels[row]] == 1) for row in batches[:, 0::2][twice])
    assert all((sizes[labels[row]] > 1) for row in batches[:, 0::2][same & ~twice])


def test_allowed_partners_are_equally_frequent() -> None:
    """Compare with drawing from lists of allowed partners one by one."""
    labels = np.array([1, 0, 1, 2, 1, 0])
    num_of_pair: Counter[tuple[int, int]] = Counter()
    for epoch in range(2000):
        pairs = epoch_batches(labels, 12, 0, epoch, "pairs").reshape(-1, 2)
        num_of_pair.update(map(tuple, pairs.tolist()))
    for anchor in range(6):
        own = [row for row in range(6) if labels[row] == labels[anchor] and row != anchor]
        own = own or [anchor]
        others = [row for row in range(6) if labels[row] != labels[anchor]]
        assert {row for first, row in num_of_pair if first == anchor} == {*own, *others}
        for allowed in (own, others):
            counts = [num_of_pair[anchor, row] for row in allowed]
            # An anchor is at each of six places equally often, and half of the places are even.
            expected = 2000 / 2 / len(allowed)
            assert np.allclose(counts, expected, atol=5 * np.sqrt(expected))


# --- P classes x K images


@given(class_tasks(ANY), SEEDS)
def test_class_batches_have_p_classes_with_k_images_each(
    task: tuple[np.ndarray, int, int],
    seed: int,
) -> None:
    labels, num_classes, per_class = task
    for batch in epoch_batches(labels, num_classes * per_class, seed, 0, "classes", per_class):
        chosen, counts = np.unique(labels[batch], return_counts=True)
        assert len(chosen) == num_classes
        assert (counts == per_class).all()
        for label in chosen:
            images = Counter(batch[labels[batch] == label].tolist())
            # An image is repeated only if its class has too few.
            assert len(images) == min(per_class, (labels == label).sum())
            assert max(images.values()) - min(images.values()) <= 1


@given(class_tasks(), SEEDS)
def test_half_of_the_pairs_of_a_class_batch_are_of_one_class(
    task: tuple[np.ndarray, int, int],
    seed: int,
) -> None:
    labels, num_classes, per_class = task
    batches = epoch_batches(labels, num_classes * per_class, seed, 0, "classes", per_class)
    expected = num_classes * per_class // 4
    # Two classes can only exchange an even number of couples.
    tolerance = expected % 2 if num_classes == 2 else 0
    assert (abs(same_class(labels, batches).sum(axis=1) - expected) == tolerance).all()


def test_batches_of_two_classes_with_two_images_have_pairs_of_both_kinds() -> None:
    labels = np.repeat(np.arange(20), 8)
    batches = epoch_batches(labels, 4, 0, 0, "classes", 2)
    assert 0.3 < same_class(labels, batches).mean() < 0.7


@pytest.mark.parametrize(
    ("num_classes", "per_class"), [(16, 4), (2, 4), (3, 4), (5, 8), (8, 2), (4, 6)]
)
def test_exactly_half_of_the_pairs_are_of_one_class_for_the_usual_sizes(
    num_classes: int, per_class: int
) -> None:
    labels = np.repeat(np.arange(20), 8)
    batches = epoch_batches(labels, num_classes * per_class, 0, 0, "classes", per_class)
    assert (same_class(labels, batches).mean(axis=1) == 0.5).all()


@given(class_tasks(ODD), SEEDS)
def test_an_odd_number_of_images_per_class_keeps_each_class_together(
    task: tuple[np.ndarray, int, int],
    seed: int,
) -> None:
    """There are no pairs then, so the P classes follow each other with their K images."""
    labels, num_classes, per_class = task
    batches = epoch_batches(labels, num_classes * per_class, seed, 0, "classes", per_class)
    for batch in labels[batches].reshape(-1, num_classes, per_class):
        assert (batch == batch[:, :1]).all()
        assert len(set(batch[:, 0])) == num_classes


def test_a_batch_of_two_odd_classes_by_hand() -> None:
    """A batch has all images of both classes, in an order that the seed decides."""
    (batch,) = epoch_batches(np.array([4, 4, 4, 9, 9, 9]), 6, 0, 0, "classes", 3)
    halves = sorted(sorted(half) for half in batch.reshape(2, 3).tolist())
    assert halves == [[0, 1, 2], [3, 4, 5]]


def test_two_of_four_images_are_paired_in_their_class_and_two_with_other_classes() -> None:
    labels = np.repeat(np.arange(10), 5)
    for batch in epoch_batches(labels, 24, 3, 0, "classes", 4):
        pairs = labels[batch].reshape(-1, 2)
        together = pairs[pairs[:, 0] == pairs[:, 1]]
        apart = pairs[pairs[:, 0] != pairs[:, 1]]
        assert sorted(together[:, 0]) == sorted(set(labels[batch]))
        assert (np.unique(apart, return_counts=True)[1] == 2).all()
        assert len(apart) == 6


@given(class_tasks(ANY), SEEDS)
def test_all_classes_are_equally_frequent(task: tuple[np.ndarray, int, int], seed: int) -> None:
    labels, num_classes, per_class = task
    labels = np.tile(labels, 4)
    batches = epoch_batches(labels, num_classes * per_class, seed, 0, "classes", per_class)
    num_turns = [np.sum(labels[batches] == label) // per_class for label in np.unique(labels)]
    assert max(num_turns) - min(num_turns) <= 1
