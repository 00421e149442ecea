"""Random numbers of our own, the same on every machine, and the transforms of minimal samples; compiled."""

from __future__ import annotations

import numpy as np

from delf_ext.compiled import compiled

THINNEST = 1e-3  # squared sine between the sides of a triple below which it is a line
THIRD, LOW_BITS, GOLDEN = np.uint64(21), np.uint64(2**21 - 1), np.uint64(0x9E3779B97F4A7C15)
SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


@compiled
def mixed(state: np.uint64) -> np.uint64:
    """The output function of splitmix64 (Steele, Lea and Flood 2014)."""
    state = (state ^ (state >> SHIFTS[0])) * FACTORS[0]
    state = (state ^ (state >> SHIFTS[1])) * FACTORS[1]
    return state ^ (state >> SHIFTS[2])


@compiled
def below(bits: np.uint64, size: int) -> np.int64:
    """A number in [0, size) from the lowest 21 of the bits."""
    return np.int64(((bits & LOW_BITS) * np.uint64(size)) >> THIRD)


@compiled
def of_two(points: np.ndarray, i: int, j: int) -> tuple[float, float, float, float, float]:
    """Linear part of the similarity times the last value, which is 0 where both are in one place."""
    x, y = points[0, j] - points[0, i], points[1, j] - points[1, i]
    u, v = points[2, j] - points[2, i], points[3, j] - points[3, i]
    a, b = u * x + v * y, u * y - v * x
    return a, b, -b, a, x * x + y * y


@compiled
def of_three(
    points: np.ndarray, i: int, j: int, k: int
) -> tuple[float, float, float, float, float]:
    """Linear part of the affine map times the last value, which is 0 where the three lie on a line."""
    x, y, s, t = (
        points[0, j] - points[0, i],
        points[1, j] - points[1, i],
        points[0, k] - points[0, i],
        points[1, k] - points[1, i],
    )
    u, v, p, q = (
        points[2, j] - points[2, i],
        points[3, j] - points[3, i],
        points[2, k] - points[2, i],
        points[3, k] - points[3, i],
    )
    area = x * t - y * s
    if area * area <= THINNEST * (x * x + y * y) * (s * s + t * t):
        area = 0.0
    return u * t - p * y, p * x - u * s, v * t - q * y, q * x - v * s, area
