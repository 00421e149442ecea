"""Which images stand together in a training batch. Pure functions of (seed, epoch): a killed run resumes at any step.

The losses that compare look at the pairs (0, 1), (2, 3), ... of a batch: the samplers "pairs" and "classes" put images so that
half of these pairs are of one class and the other half of two. Where that is no whole number, or cannot be, see the sampler.
"""

from __future__ import annotations

import numpy as np

SAMPLERS = ("shuffled", "pairs", "classes")


def epoch_batches(
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    sampler: str,
    images_per_class: int = 4,
) -> np.ndarray:
    """Rows of one epoch's batches, [steps, batch_size] int64; steps = ceil(N / batch_size), so an epoch costs about N images.

    labels: [N] int. sampler: "shuffled" (each image once, the last batch filled from the start), "pairs" (the original's balanced
    pairs), or "classes" (P = batch_size / images_per_class classes, K = images_per_class images of each).
    Raises: ValueError where the labels or the batch size do not allow the sampler.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"unknown sampler {sampler!r}. Known: {', '.join(SAMPLERS)}.")
    if batch_size < 1 or len(labels) < 1:
        raise ValueError(
            f"sampling needs an image and --batch_size of at least 1. Received {len(labels)} and {batch_size}."
        )
    _, classes = np.unique(labels, return_inverse=True)
    rng = np.random.default_rng([seed, epoch])
    steps = -(-len(classes) // batch_size)
    if sampler == "shuffled":
        return np.resize(rng.permutation(len(classes)), (steps, batch_size))
    if classes.max() < 1:
        raise ValueError("comparing images needs at least 2 classes to train on. Received 1.")
    if sampler == "pairs":
        return _pair_batches(classes, steps, batch_size, rng)
    return _class_batches(classes, steps, batch_size, images_per_class, rng)


def _pair_batches(
    classes: np.ndarray, steps: int, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Anchors run through a permutation of all images; even pairs get a partner of their class, odd ones of another.

    Pairs are counted through the epoch, so where a batch holds an odd number of them, the next batch makes up for it. The
    partner in a class of one image is that image.
    """
    if batch_size % 2:
        raise ValueError(f"comparing pairs needs an even --batch_size. Received {batch_size}.")
    num_pairs = steps * batch_size // 2
    anchors = np.resize(rng.permutation(len(classes)), num_pairs)
    by_class = np.argsort(
        classes, kind="stable"
    )  # a class is a run in it: `count` rows from `start`
    place = np.argsort(by_class)[anchors]
    counts = np.bincount(classes)
    count, start = counts[classes[anchors]], (np.cumsum(counts) - counts)[classes[anchors]]
    same = start + (place - start + rng.integers(1, np.maximum(count, 2))) % count
    other = rng.integers(len(classes) - count)  # counted without the anchor's own class
    other += count * (other >= start)
    partners = by_class[np.where(np.arange(num_pairs) % 2 == 0, same, other)]
    return np.stack([anchors, partners], axis=1).reshape(steps, batch_size)


def _class_batches(
    classes: np.ndarray, steps: int, batch_size: int, per_class: int, rng: np.random.Generator
) -> np.ndarray:
    """P x K. A class's images come as different ones as far as it has them; an odd K is not ordered in pairs."""
    num_known = int(classes.max()) + 1
    if per_class < 2 or batch_size % per_class:
        raise ValueError(
            f"--images_per_class must be at least 2 and divide --batch_size={batch_size}. Received {per_class}."
        )
    num_classes = batch_size // per_class
    if not 2 <= num_classes <= num_known:
        raise ValueError(
            f"batches of {num_classes} classes x {per_class} images need {num_classes} classes (at least 2); "
            f"there are {num_known} to train on. Make --batch_size smaller, or with --recipe --set sampling.classes."
        )
    rows_of_class = np.split(
        np.argsort(classes, kind="stable"), np.cumsum(np.bincount(classes))[:-1]
    )
    order = np.ravel if per_class % 2 else _half_paired
    return np.stack(
        [
            order(
                np.stack([np.resize(rng.permutation(rows_of_class[c]), per_class) for c in chosen])
            )
            for chosen in _class_order(num_known, num_classes, steps, rng)
        ]
    )


def _class_order(
    num_known: int, per_batch: int, steps: int, rng: np.random.Generator
) -> np.ndarray:
    """[steps, per_batch]: all classes in random order, then all again in another, no class twice in a batch."""
    order = np.zeros(0, np.int64)
    while len(order) < steps * per_batch:
        begun = order[
            len(order) // per_batch * per_batch :
        ]  # the batch that the next round completes
        following = rng.permutation(num_known)
        again = np.isin(following, begun)
        order = np.concatenate([order, following[~again], following[again]])
    return order[: steps * per_batch].reshape(steps, per_batch)


def _half_paired(images: np.ndarray) -> np.ndarray:
    """[P, K] -> [P * K]: half of the pairs stay within their class, the others exchange one image with the next class.

    Each class is cut into K / 2 couples, listed one of each class after the other. The first half of the list stays: for K = 4
    that is one couple of each class, for K = 2 the couples of the first P / 2 classes. An odd couple in the middle is exchanged.
    Two classes can only exchange an even number of couples: with K = 2, 6, 10, ... that is one more than half.
    """
    num_classes, per_class = images.shape
    couples = images.reshape(num_classes, per_class // 2, 2).transpose(1, 0, 2).reshape(-1, 2)
    stay = len(couples) // 2
    if num_classes == 2:
        stay -= stay % 2
    couples[stay:, 1] = np.roll(couples[stay:, 1], 1)
    return couples.ravel()
