"""Make the weights and batches that the goldens are measured with.

They depend only on names and numbers, not on the engine: another engine whose variables have the
same roles starts from the same weights.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

NUM_CLASSES = 5


def _seed(text: str) -> int:
    return zlib.crc32(text.encode())


def initial(role: str, shape: Sequence[int]) -> np.ndarray:
    """Return random weights of a role, float32 and read-only. Kernels: He et al. 2015."""
    return _initial(role, tuple(int(side) for side in shape))


@cache
def _initial(role: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(_seed(role))
    kind = role.rpartition("/")[2]
    if kind in ("gamma", "moving_variance"):
        values = rng.uniform(0.5, 1.5, shape)
    elif kind in ("beta", "bias", "biases", "moving_mean"):
        values = 0.1 * rng.standard_normal(shape)
    elif kind in ("kernel", "weights"):
        values = rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[:-1]))
    else:
        raise ValueError(f"no initial values are known for {role!r}.")
    drawn = values.astype(np.float32)
    drawn.setflags(write=False)
    return drawn


def batch(step: int, size_px: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Draw the batch of a step.

    The pairs (0, 1) and (4, 5) show one class, the pairs (2, 3) and (6, 7) two. Four of the five
    classes occur, so each image has one positive and six negatives.

    Args:
        step: number of the step; the seed of the batch.
        size_px: side of the images, in pixels.

    Returns:
        Images uint8 [8, size_px, size_px, 3] and labels int32 [8].
    """
    rng = np.random.default_rng([_seed("batch"), step])
    a, b, c, d = rng.permutation(NUM_CLASSES)[:4]
    labels = np.array([a, a, b, c, d, d, b, c], np.int32)
    colours = np.random.default_rng(_seed("colours")).uniform(110, 145, (NUM_CLASSES, 3))[labels]
    # Each image gets large random blocks. Fine noise alone would be averaged out by the network,
    # and the loss would be 0 after one step.
    blocks = 40 * rng.standard_normal((len(labels), 4, 4, 3))
    own = blocks.repeat(size_px // 4, axis=1).repeat(size_px // 4, axis=2)
    noise = 20 * rng.standard_normal(own.shape)
    return np.clip(colours[:, None, None] + own + noise, 0, 255).astype(np.uint8), labels


def summary(role: str, values: np.ndarray) -> list[float]:
    """Return [projection on a random direction of the role, length] of an array."""
    flat = np.asarray(values, np.float64).ravel()
    return [float(flat @ _direction(role, flat.size)), float(np.linalg.norm(flat))]


@cache
def _direction(role: str, size: int) -> np.ndarray:
    direction = np.random.default_rng(_seed(role) + 1).standard_normal(size)
    return direction / np.linalg.norm(direction)


def digest(shapes: Iterable[tuple[str, Sequence[int]]], batches: Iterable[tuple[int, int]]) -> str:
    """Return a digest of the random inputs, to check that they are those of the record.

    Args:
        shapes: (role, shape) of all weights in use.
        batches: (step, size_px) of all batches in use.
    """
    summed = hashlib.sha256()
    for role, shape in shapes:
        # Rounded, because the logarithm of the processor decides the last bits of some numbers.
        summed.update(np.round(initial(role, shape), 4).tobytes())
        summed.update(np.round(_direction(role, math.prod(shape)), 4).tobytes())
    for step, size_px in batches:
        for part in batch(step, size_px):
            summed.update(part.tobytes())
    return summed.hexdigest()[:12]
