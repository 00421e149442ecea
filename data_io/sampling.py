"""Choose the images of each training batch.

The functions depend only on seed and epoch, so a killed run can resume at any step.

The pair losses compare the images (0, 1), (2, 3), ... of a batch. The samplers "pairs" and
"classes" order the images so that half of these pairs have one class and the other half two. The
samplers describe the cases in which exactly half is not possible.
"""

from __future__ import annotations

import numpy as np


def epoch_batches(
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    sampler: str,
    images_per_class: int = 4,
) -> np.ndarray:
    """Return the rows of one epoch's batches.

    An epoch has about N images, in ceil(N / batch_size) steps.

    Args:
        labels: int [N], of at least 2 classes.
        batch_size: number of images in a batch; even for "pairs", P * K for "classes".
        seed: of the run.
        epoch: number of the epoch.
        sampler: "shuffled" (each image once; the last batch is filled from the start), "pairs" (the
            balanced pairs of the 2018 original), or "classes" (P = batch_size / images_per_class
            classes with K = images_per_class images each).
        images_per_class: K of the sampler "classes".

    Returns:
        int64 [steps, batch_size].

    Raises:
        ValueError: there are fewer classes than P.
    """
    num_images = len(labels)
    _, classes = np.unique(labels, return_inverse=True)
    rng = np.random.default_rng([seed, epoch])
    steps = -(-num_images // batch_size)
    if sampler == "shuffled":
        return np.resize(rng.permutation(num_images), (steps, batch_size))
    if sampler == "pairs":
        return _pair_batches(classes, steps, batch_size, rng)
    return _class_batches(classes, steps, batch_size, images_per_class, rng)


def _pair_batches(
    classes: np.ndarray, steps: int, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Return batches [steps, batch_size] of pairs (anchor, partner)."""
    # The anchors are a permutation of all images. Even pairs get a partner of the same class, odd
    # pairs of another class. Pairs are counted through the epoch, so if a batch has an odd number
    # of them, the next batch compensates. The partner in a class of one image is that image itself.
    num_pairs = steps * batch_size // 2
    anchors = np.resize(rng.permutation(len(classes)), num_pairs)
    # In rows_by_class each class is a range: `count` rows from `start`.
    rows_by_class = np.argsort(classes, kind="stable")
    place = np.argsort(rows_by_class)[anchors]
    counts = np.bincount(classes)
    starts = np.cumsum(counts) - counts
    count = counts[classes[anchors]]
    start = starts[classes[anchors]]
    same_class = start + (place - start + rng.integers(1, np.maximum(count, 2))) % count
    # The random place does not count the anchor's own class, so it is moved behind that class.
    other_class = rng.integers(len(classes) - count)
    other_class += count * (other_class >= start)
    is_even = np.arange(num_pairs) % 2 == 0
    partners = rows_by_class[np.where(is_even, same_class, other_class)]
    return np.stack([anchors, partners], axis=1).reshape(steps, batch_size)


def _class_batches(
    classes: np.ndarray, steps: int, batch_size: int, per_class: int, rng: np.random.Generator
) -> np.ndarray:
    """Return batches [steps, batch_size] of P classes with K images each."""
    # An image is repeated only if its class has fewer than K. Batches of odd K have no pairs.
    num_known = int(classes.max()) + 1
    num_classes = batch_size // per_class
    if num_classes > num_known:
        raise ValueError(
            f"batches of {num_classes} classes x {per_class} images need {num_classes} classes; "
            f"there are {num_known} to train on. Make the batch smaller: "
            "--batch_size, or sampling.classes of the recipe."
        )
    first_rows = np.cumsum(np.bincount(classes))[:-1]
    rows_of_class = np.split(np.argsort(classes, kind="stable"), first_rows)
    batches = []
    for chosen in _class_order(num_known, num_classes, steps, rng):
        images = np.stack(
            [np.resize(rng.permutation(rows_of_class[label]), per_class) for label in chosen]
        )
        batches.append(images.ravel() if per_class % 2 else _half_paired(images, rng))
    return np.stack(batches)


def _class_order(
    num_known: int, per_batch: int, steps: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the classes of each batch, [steps, per_batch], without repetition in a batch."""
    # All classes come in random order, then all again in another order.
    order = np.zeros(0, np.int64)
    while len(order) < steps * per_batch:
        # The next round completes this batch, so classes that are in it already come last.
        begun = order[len(order) // per_batch * per_batch :]
        following = rng.permutation(num_known)
        repeated = np.isin(following, begun)
        order = np.concatenate([order, following[~repeated], following[repeated]])
    return order[: steps * per_batch].reshape(steps, per_batch)


def _half_paired(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order images [P, K] as [P * K] so that half of the pairs have one class."""
    # Each class is cut into K / 2 couples, which are listed in turns: one couple of each class. The
    # first half of the list keeps its couples: for K = 4 one couple of each class, for K = 2 the
    # couples of the first P / 2 classes. Each other couple exchanges one image with the next one;
    # a couple in the middle of an odd number also does. Two classes can only exchange an even
    # number of couples: with K = 2, 6, 10, ... that is one more or one less than half, at random.
    # With K = 2 it is none or all: always none would show a loss no pair of one class.
    num_classes, per_class = images.shape
    couples = images.reshape(num_classes, per_class // 2, 2).transpose(1, 0, 2).reshape(-1, 2)
    num_kept = len(couples) // 2
    if num_classes == 2 and num_kept % 2:
        num_kept += rng.choice((-1, 1))
    couples[num_kept:, 1] = np.roll(couples[num_kept:, 1], 1)
    return couples.ravel()
