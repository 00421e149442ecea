"""Makes what goldens are measured with: weights and batches, out of names and numbers.

Knows no engine. Whoever rebuilds the engine gives its variables the same roles, and so starts
from the same weights.
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
    """Draws the weights of a role, float32 and read-only; kernels as He has them."""
    return _initial(role, tuple(int(side) for side in shape))


@cache  # the same few million numbers for every case
def _initial(role: str, shape: tuple[int, ...]) -> np.ndarray:
    rng, kind = np.random.default_rng(_seed(role)), role.rpartition("/")[2]
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
    """Draws the images of a step, uint8 [8, size_px, size_px, 3], and their labels, int32 [8].

    Of the pairs (0, 1), (2, 3), ... two are of one class. Four of the five classes are there,
    so that every image has one positive and six negatives.
    """
    rng = np.random.default_rng([_seed("batch"), step])
    a, b, c, d = rng.permutation(NUM_CLASSES)[:4]
    labels = np.array([a, a, b, c, d, d, b, c], np.int32)
    colours = np.random.default_rng(_seed("colours")).uniform(110, 145, (NUM_CLASSES, 3))[labels]
    # Large blocks of an image's own: fine noise averages out, and a step would leave no loss.
    blocks = 40 * rng.standard_normal((len(labels), 4, 4, 3))
    own = blocks.repeat(size_px // 4, axis=1).repeat(size_px // 4, axis=2)
    noise = 20 * rng.standard_normal(own.shape)
    return np.clip(colours[:, None, None] + own + noise, 0, 255).astype(np.uint8), labels


def summary(role: str, values: np.ndarray) -> list[float]:
    """Reduces an array to its projection on a direction of the role's own, and its length."""
    flat = np.asarray(values, np.float64).ravel()
    return [float(flat @ _direction(role, flat.size)), float(np.linalg.norm(flat))]


@cache
def _direction(role: str, size: int) -> np.ndarray:
    direction = np.random.default_rng(_seed(role) + 1).standard_normal(size)
    return direction / np.linalg.norm(direction)


def digest(shapes: Iterable[tuple[str, Sequence[int]]], batches: Iterable[tuple[int, int]]) -> str:
    """Tells whether the random streams are still those of the record.

    shapes: (role, shape) of all weights in use. batches: (step, size_px) of all batches in use.
    """
    summed = hashlib.sha256()
    for role, shape in shapes:
        # Rounded: the tails of a normal distribution go through the processor's own logarithm.
        summed.update(np.round(initial(role, shape), 4).tobytes())
        summed.update(np.round(_direction(role, math.prod(shape)), 4).tobytes())
    for step, size_px in batches:
        for part in batch(step, size_px):
            summed.update(part.tobytes())
    return summed.hexdigest()[:12]
