"""Mix the images of a batch, and say which share of each image has which label."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data_io.augmentation import Changes

# A pixel is mixed in steps of 1/256, so 16 bits are enough, and the share of the label is exact.
MIXUP_STEPS = 256


class MixedBatch(NamedTuple):
    """A batch whose images can show two classes.

    Attributes:
        images: uint8 [B, H, W, 3].
        labels: int32 [B], of the images.
        other_labels: int32 [B], of what was mixed into them; the same label in unmixed images.
        shares: float32 [B], share of `labels` in each image, 0..1; the rest is `other_labels`.
    """

    images: np.ndarray
    labels: np.ndarray
    other_labels: np.ndarray
    shares: np.ndarray


def mix_batch(
    images: np.ndarray, labels: np.ndarray, changes: Changes, rng: np.random.Generator
) -> MixedBatch:
    """Mix random images of a batch with others of it, each at most once.

    Sources: Yun et al., arXiv:1905.04899 (cut_mix); Zhang et al., arXiv:1710.09412 (mixup). There,
    one share counts for a whole batch; here, each image has its own.

    Args:
        images: uint8 [B, H, W, 3].
        labels: int32 [B].
        changes: "cut_mix" and "mixup" with their alpha and probability; other names are ignored.
        rng: the source of randomness.

    Returns:
        The mixed batch.
    """
    num_images = len(images)
    others = rng.permutation(num_images)
    draws = rng.random(num_images)
    mixed = images.copy()
    shares = np.ones(num_images, np.float32)
    first = 0.0
    for name, mix in MIXINGS.items():
        if name not in changes:
            continue
        last = first + changes[name]["probability"]
        for row in np.flatnonzero((first <= draws) & (draws < last)):
            share = rng.beta(changes[name]["alpha"], changes[name]["alpha"])
            mixed[row], shares[row] = mix(images[row], images[others[row]], share, rng)
        first = last
    other_labels = np.where(shares < 1, labels[others], labels)
    return MixedBatch(mixed, labels, other_labels, shares)


def cut_mix(
    image: np.ndarray, other: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Replace a rectangle of an image by the same rectangle of another one.

    The centre is uniform in the image, and the rectangle is cut off at its edges (Yun et al.,
    arXiv:1905.04899, appendix A).

    Args:
        image: uint8 [H, W, 3].
        other: uint8 [H, W, 3].
        share: of the image that a rectangle inside of it would leave, 0..1.
        rng: the source of randomness.

    Returns:
        The mixed image, and the exact share of the pixels that remained.
    """
    height, width = image.shape[:2]
    side_share = math.sqrt(1 - share)
    half_height = int(height * side_share) // 2
    half_width = int(width * side_share) // 2
    centre_y = int(rng.integers(height))
    centre_x = int(rng.integers(width))
    top, bottom = max(0, centre_y - half_height), min(height, centre_y + half_height)
    left, right = max(0, centre_x - half_width), min(width, centre_x + half_width)
    mixed = image.copy()
    mixed[top:bottom, left:right] = other[top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def mixup(
    image: np.ndarray, other: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Return the weighted mean of two images.

    Args:
        image: uint8 [H, W, 3].
        other: uint8 [H, W, 3].
        share: weight of the image, 0..1.
        rng: not used.

    Returns:
        The mixed image, rounded, and the weight of `image`: `share` as a multiple of 1/256.
    """
    weight = round(share * MIXUP_STEPS)
    total = image.astype(np.uint16) * np.uint16(weight)
    total += other.astype(np.uint16) * np.uint16(MIXUP_STEPS - weight)
    total += MIXUP_STEPS // 2
    total >>= 8
    return total.astype(np.uint8), weight / MIXUP_STEPS


MIXINGS: dict[str, Callable] = {"cut_mix": cut_mix, "mixup": mixup}
