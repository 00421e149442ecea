"""Draw RANSAC's random numbers and fit transforms to its minimal samples (compiled).

The random numbers come from splitmix64, written out here, because the generators of NumPy and numba
may change between versions. It uses only 64-bit integers. The fits use a fixed sequence of float64
operations. So both give the same bits on every machine.
"""

from __future__ import annotations

import numpy as np

from delf_ext.compiled import compiled

# Three matches are on a line if the squared sine of the angle between two sides is below this.
MIN_SQUARED_SINE = 1e-3
# A 64-bit number is enough for three draws.
BITS_PER_DRAW = np.uint64(21)
DRAW_MASK = np.uint64(2**21 - 1)
# Increment of the state of splitmix64: 2^64 divided by the golden ratio.
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))
FACTORS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))

# (a, b, c, d, scale): the linear map (a b; c d) / scale.
LinearPart = tuple[float, float, float, float, float]
# The two upper rows of an affine transform.
Affine = tuple[float, float, float, float, float, float]


@compiled
def splitmix64(state: np.uint64) -> np.uint64:
    """Return the random number of a state.

    Source: output function of splitmix64 (Steele, Lea and Flood 2014).
    """
    state = (state ^ (state >> SHIFTS[0])) * FACTORS[0]
    state = (state ^ (state >> SHIFTS[1])) * FACTORS[1]
    return state ^ (state >> SHIFTS[2])


@compiled
def draw_three(state: np.uint64, size: int) -> tuple[np.int64, np.int64, np.int64]:
    """Return three random numbers in [0, size); they may be equal."""
    bits = splitmix64(state)
    return (
        _draw_below(bits, size),
        _draw_below(bits >> BITS_PER_DRAW, size),
        _draw_below(bits >> (BITS_PER_DRAW + BITS_PER_DRAW), size),
    )


@compiled
def _draw_below(bits: np.uint64, size: int) -> np.int64:
    """Return a number in [0, size) made of the lowest 21 bits."""
    return np.int64(((bits & DRAW_MASK) * np.uint64(size)) >> BITS_PER_DRAW)


@compiled
def similarity_from_two(points: np.ndarray, i: int, j: int) -> LinearPart:
    """Fit the linear part of a similarity to two matches.

    Args:
        points: float64 [4, K] matches: x, y of the query, x, y of the gallery.
        i: column of the first match.
        j: column of the second match.

    Returns:
        (a, b, c, d, scale): the linear part is (a b; c d) / scale. The scale is 0 if the matches
        do not determine it.
    """
    x, y, u, v = _difference(points, i, j)
    a = u * x + v * y
    b = u * y - v * x
    return a, b, -b, a, x * x + y * y


@compiled
def affine_from_three(points: np.ndarray, i: int, j: int, k: int) -> LinearPart:
    """Fit the linear part of an affine transform to three matches.

    Args:
        points: float64 [4, K] matches: x, y of the query, x, y of the gallery.
        i: column of the first match.
        j: column of the second match.
        k: column of the third match.

    Returns:
        As `similarity_from_two`. The scale is also 0 if the query points are nearly on a line.
    """
    x, y, u, v = _difference(points, i, j)
    s, t, p, q = _difference(points, i, k)
    area = x * t - y * s
    if area * area <= MIN_SQUARED_SINE * (x * x + y * y) * (s * s + t * t):
        area = 0.0
    return u * t - p * y, p * x - u * s, v * t - q * y, q * x - v * s, area


@compiled
def _difference(points: np.ndarray, i: int, j: int) -> tuple[float, float, float, float]:
    """Return match `j` minus match `i`: x, y in the query, x, y in the gallery image."""
    return (
        points[0, j] - points[0, i],
        points[1, j] - points[1, i],
        points[2, j] - points[2, i],
        points[3, j] - points[3, i],
    )
