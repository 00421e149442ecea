"""Search for the transform that most matches agree on (compiled; called by `ransac`).

Each trial draws a minimal sample from a pool of the best matches. The pool grows with the trials
(PROSAC). The transform of the sample gets a quick score in float32, first on a few matches and only
then on all. If that is the highest so far, the transform is fitted again to its inliers until its
score stops rising (LO-RANSAC). The search ends when a better transform is unlikely.

The result has the same bits on every machine. Floats are added in a fixed order. Quick scores are
whole numbers, so they may be added in any order, many at a time.

Transforms, matches and models are as in `least_squares`. A cell is a square of the pixel grid;
`cells` int [2, K] holds for each image and match the first match in the same cell. Arrays are
copied by a loop, because numba needs seconds to compile array expressions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from delf_ext.compiled import compiled
from delf_ext.geometry.least_squares import (
    SIMILARITY,
    Limits,
    fit_least_squares,
    is_plausible_at,
    is_plausible_linear,
    project,
    set_affine,
)
from delf_ext.geometry.sampling import (
    GOLDEN,
    Affine,
    LinearPart,
    affine_from_three,
    draw_three,
    similarity_from_two,
    splitmix64,
)

FIRST_POOL = 16
TRIALS_PER_GROWTH = 2
# All matches are scored only if the first CHUNK matches score more than the sample's own
# matches can.
CHUNK = 64
# A sample of few noisy matches is inexact: at first, errors up to MARGIN * max_error count.
MARGIN = 2.0
# A model needs at least SUPPORT inliers for each match of its minimal sample.
SUPPORT = 2
MAX_ROUNDS = 10
# Quick score of a match without error.
FULL_SCORE = 256.0


class SearchSettings(NamedTuple):
    """Settings of a search, as in `RansacConfig`.

    Attributes:
        model: number of the richest model to fit.
        max_trials: most samples to draw.
        chance_to_miss: probability of missing a better transform at which the search ends.
        min_inliers: fewer inliers are no result.
        place_px: side of a cell in pixels.
        limits: limits of a plausible transform.
    """

    model: int
    max_trials: int
    chance_to_miss: float
    min_inliers: int
    place_px: float
    limits: Limits


@compiled
def search_pairs(
    points: np.ndarray,
    offsets: np.ndarray,
    max_errors: np.ndarray,
    keys: np.ndarray,
    seed: int,
    settings: SearchSettings,
    first: int,
    step: int,
    transforms: np.ndarray,
    inliers: np.ndarray,
) -> None:
    """Search the pairs of images first, first + step, ... and write their transforms and inliers.

    Args:
        points: float64 [4, T]: query x, y, gallery x, y of the matches of all pairs; best first
            within a pair.
        offsets: int [N + 1], pair i has the matches offsets[i] to offsets[i + 1].
        max_errors: float64 [N] residual of an inlier in pixels.
        keys: uint64 [N], chooses the random numbers of a pair together with `seed`.
        seed: uint64.
        settings: see `SearchSettings`.
        first: first pair.
        step: number of pairs to the next one.
        transforms: float64 [N, 9] of zeros, output; stays 0 if a pair has no transform.
        inliers: bool [T] of False, output.
    """
    for pair in range(first, len(offsets) - 1, step):
        low = offsets[pair]
        high = offsets[pair + 1]
        pair_points = np.empty((4, high - low))
        for axis in range(4):
            _copy(points[axis, low:high], pair_points[axis])
        state = splitmix64(splitmix64(seed + GOLDEN) ^ keys[pair])
        rows = np.empty(high - low, np.int64)
        h = np.zeros(9)
        count = _search(pair_points, max_errors[pair], settings, state, h, rows)
        if count >= settings.min_inliers:
            _copy(h, transforms[pair])
            for row in rows[:count]:
                inliers[low + row] = True


@compiled
def _search(
    points: np.ndarray,
    max_error: float,
    settings: SearchSettings,
    state: int,
    best: np.ndarray,
    best_rows: np.ndarray,
) -> int:
    """Write the best transform and the rows of its inliers; return their number, 0 for none."""
    size = points.shape[1]
    sample_size = 2 if settings.model == SIMILARITY else 3
    if size < sample_size:
        return 0
    coarse = np.empty((4, size), np.float32)
    for axis in range(4):
        _copy(points[axis], coarse[axis])
    cells = np.empty((2, size), np.int64)
    for image in range(2):
        _assign_cells(points[2 * image], points[2 * image + 1], settings.place_px, cells[image])
    taken = np.zeros((2, size), np.bool_)
    chunk = min(CHUNK, size)
    rows = np.empty(size, np.int64)
    h = np.empty(9)
    per_px2 = np.float32(FULL_SCORE / (MARGIN * max_error) ** 2)
    best_quick = 0
    best_score = 0.0
    best_count = 0
    # Probability that a transform with as many inliers has not been sampled yet.
    missed = 1.0
    # Probability that one sample contains only inliers of the best transform so far.
    hit = 0.0
    for trial in range(settings.max_trials):
        missed *= 1.0 - hit
        if missed < settings.chance_to_miss:
            break
        state += GOLDEN
        i, j, k = draw_three(state, min(size, FIRST_POOL + trial // TRIALS_PER_GROWTH))
        if i == j or (sample_size == 3 and (i == k or j == k)):
            continue
        if sample_size == 3:
            linear = affine_from_three(points, i, j, k)
        else:
            linear = similarity_from_two(points, i, j)
        if linear[4] == 0.0 or not is_plausible_linear(linear, settings.limits):
            continue
        affine = _affine_through(points, i, linear)
        quick = _quick_score(coarse, 0, chunk, affine, per_px2)
        num_own = (i < chunk) + (j < chunk) + (sample_size == 3 and k < chunk)
        if quick <= FULL_SCORE * num_own:
            continue
        quick += _quick_score(coarse, chunk, size, affine, per_px2)
        if quick <= best_quick:
            continue
        best_quick = quick
        set_affine(h, affine)
        count, score = _optimise(points, cells, taken, settings, max_error, h, rows)
        if score > best_score:
            best_score = score
            best_count = count
            hit = (count / size) ** sample_size
            _copy(h, best)
            _copy(rows[:count], best_rows)
    return best_count


@compiled
def _copy(source: np.ndarray, target: np.ndarray) -> None:
    for i in range(len(source)):
        target[i] = source[i]


@compiled
def _affine_through(points: np.ndarray, i: int, linear: LinearPart) -> Affine:
    """Return the affine transform of this linear part that maps match `i` exactly."""
    a, b, c, d, scale = linear
    a /= scale
    b /= scale
    c /= scale
    d /= scale
    u = points[2, i] - a * points[0, i] - b * points[1, i]
    v = points[3, i] - c * points[0, i] - d * points[1, i]
    return a, b, u, c, d, v


@compiled
def _optimise(
    points: np.ndarray,
    cells: np.ndarray,
    taken: np.ndarray,
    settings: SearchSettings,
    max_error: float,
    h: np.ndarray,
    rows: np.ndarray,
) -> tuple[int, float]:
    """Fit `h` again and again to its inliers; return the number and score of those in `rows`."""
    candidate = np.empty(9)
    margin = MARGIN
    best_score = _find_inliers(points, cells, taken, h, max_error, rows)[1]
    # First fit with a wide error limit; when that no longer helps, with the normal limit;
    # then stop.
    for _ in range(MAX_ROUNDS):
        support = _find_inliers(points, cells, taken, h, margin * max_error, rows)[0]
        score = 0.0
        if _fit_richest(points, rows[:support], settings, candidate):
            score = _find_inliers(points, cells, taken, candidate, max_error, rows)[1]
        if score > best_score:
            best_score = score
            _copy(candidate, h)
        elif margin > 1.0:
            margin = 1.0
        else:
            break
    return _find_inliers(points, cells, taken, h, max_error, rows)


@compiled
def _fit_richest(
    points: np.ndarray, rows: np.ndarray, settings: SearchSettings, h: np.ndarray
) -> bool:
    """Fit the richest model up to `settings.model` that the rows support and that is plausible."""
    # The minimal sample of model number m has m + 2 matches.
    richest = min(settings.model, len(rows) // SUPPORT - 2)
    for model in range(richest, -1, -1):
        is_fitted = fit_least_squares(model, points, rows, h)
        if is_fitted and is_plausible_at(h, points, rows, settings.limits):
            return True
    return False


@compiled
def _find_inliers(
    points: np.ndarray,
    cells: np.ndarray,
    taken: np.ndarray,
    h: np.ndarray,
    max_error: float,
    rows: np.ndarray,
) -> tuple[int, float]:
    """Write to `rows` the inliers, best match first, with at most one in each cell of an image.

    `taken` bool [2, K] is scratch memory: False before and after the call.

    Returns:
        Number of inliers, and their sum of 1 - (residual / max_error)^2.
    """
    count = 0
    score = 0.0
    limit = max_error * max_error
    for k in range(points.shape[1]):
        u, v, _ = project(h, points[0, k], points[1, k])
        du = u - points[2, k]
        dv = v - points[3, k]
        square = du * du + dv * dv
        if square <= limit and not (taken[0, cells[0, k]] or taken[1, cells[1, k]]):
            taken[0, cells[0, k]] = True
            taken[1, cells[1, k]] = True
            rows[count] = k
            count += 1
            score += 1.0 - square / limit
    for row in rows[:count]:
        taken[0, cells[0, row]] = False
        taken[1, cells[1, row]] = False
    return count, score


@compiled
def _quick_score(coarse: np.ndarray, start: int, stop: int, affine: Affine, per_px2: float) -> int:
    """Score an affine transform on matches float32 [4, K] from start to stop, without cells."""
    a = np.float32(affine[0])
    b = np.float32(affine[1])
    right = np.float32(affine[2])
    c = np.float32(affine[3])
    d = np.float32(affine[4])
    down = np.float32(affine[5])
    xs = coarse[0]
    ys = coarse[1]
    us = coarse[2]
    vs = coarse[3]
    score = 0
    for k in range(start, stop):
        du = a * xs[k] + b * ys[k] + right - us[k]
        dv = c * xs[k] + d * ys[k] + down - vs[k]
        gain = np.float32(FULL_SCORE) - (du * du + dv * dv) * per_px2
        score += int(np.int32(gain if gain > 0 else np.float32(0.0)))
    return score


@compiled
def _assign_cells(xs: np.ndarray, ys: np.ndarray, place_px: float, cells: np.ndarray) -> None:
    """Write for each point the first point in its cell, found by a hash table with open addresses.

    In the table, 0 is a free slot and k + 1 is point k.
    """
    size = 4
    while size < 2 * len(xs):
        size *= 2
    table = np.zeros(size, np.int64)
    for k in range(len(xs)):
        column = np.floor(xs[k] / place_px)
        line = np.floor(ys[k] / place_px)
        line_hash = splitmix64(np.uint64(np.int64(line)))
        cell_hash = splitmix64(np.uint64(np.int64(column)) ^ line_hash)
        slot = np.int64(cell_hash) & (size - 1)
        while table[slot] > 0:
            other = table[slot] - 1
            if np.floor(xs[other] / place_px) == column and np.floor(ys[other] / place_px) == line:
                break
            slot = (slot + 1) & (size - 1)
        if table[slot] == 0:
            table[slot] = k + 1
        cells[k] = table[slot] - 1
