"""The compiled search of RANSAC: samples, quick scores, local optimisation. See `ransac` for what it promises.

Points are [4, K] as in `least_squares`; `places` [2, K] numbers the cell of each point in either image. Copies are loops:
numba takes seconds to compile array expressions, which a user waits for once.
"""

from __future__ import annotations

import numpy as np

from delf_ext.compiled import compiled
from delf_ext.geometry.least_squares import Limits, fit_rows, local_is_plausible, rows_are_plausible
from delf_ext.geometry.sampling import GOLDEN, THIRD, below, mixed, of_three, of_two

FIRST_POOL = 16
TRIALS_PER_GROWTH = 2
CHUNK = 64  # matches that a sample is tried on first: it must fit one beside its own
MARGIN = 2.0  # times the error allowed: for samples, which few and noisy points determine, and at first to optimise them
SUPPORT = 2  # inliers over the size of a minimal sample, for a model to be fitted to them
MAX_ROUNDS = 10
FULL = 256.0  # quick score of a match without error; quick scores are whole numbers, whose sum has no order

How = tuple[int, int, float, int, float]  # model, max_trials, chance to miss, min_inliers, place_px
Linear = tuple[float, float, float, float]  # the map (a b; c d)


@compiled
def search_some(
    points: np.ndarray,
    offsets: np.ndarray,
    max_errors: np.ndarray,
    keys: np.ndarray,
    seed: int,
    how: How,
    limits: Limits,
    first: int,
    step: int,
    transforms: np.ndarray,
    inliers: np.ndarray,
) -> None:
    """Pairs first, first + step, ...: their transforms [N, 9], left at 0 where there is none, and inliers [T]."""
    for pair in range(first, len(offsets) - 1, step):
        low, high = offsets[pair], offsets[pair + 1]
        own = np.empty((4, high - low))
        for axis in range(4):
            for k in range(high - low):
                own[axis, k] = points[axis, low + k]
        state = mixed(mixed(seed + GOLDEN) ^ keys[pair])
        rows, h = np.empty(own.shape[1], np.int64), np.zeros(9)
        count = _search(own, max_errors[pair], how, limits, state, h, rows)
        if count >= how[3]:
            for i in range(9):
                transforms[pair, i] = h[i]
            for row in rows[:count]:
                inliers[low + row] = True


@compiled
def _search(
    points: np.ndarray,
    max_error: float,
    how: How,
    limits: Limits,
    state: int,
    best: np.ndarray,
    best_rows: np.ndarray,
) -> int:
    """The best transform and the rows of its inliers; their number, 0 where there is no transform."""
    model, max_trials, chance_to_miss, _, place_px = how
    size, draws = points.shape[1], 2 if model == 0 else 3
    places, taken, coarse = (
        np.empty((2, size), np.int64),
        np.zeros((2, size), np.bool_),
        np.empty((4, size), np.float32),
    )
    for image in range(2):
        _number_places(points[2 * image], points[2 * image + 1], place_px, places[image])
    for axis in range(4):
        for k in range(size):
            coarse[axis, k] = points[axis, k]
    rows, h, per_px2 = (
        np.empty(size, np.int64),
        np.empty(9),
        np.float32(FULL / (MARGIN * max_error) ** 2),
    )
    chunk, quickest, best_score, best_count, missed, hit = min(CHUNK, size), 0, 0.0, 0, 1.0, 0.0
    for trial in range(max_trials if size >= draws else 0):
        missed *= 1.0 - hit
        if missed < chance_to_miss:
            break
        state += GOLDEN
        bits, pool = mixed(state), min(size, FIRST_POOL + trial // TRIALS_PER_GROWTH)
        i, j, k = (
            below(bits, pool),
            below(bits >> THIRD, pool),
            below(bits >> (THIRD + THIRD), pool),
        )
        if i == j or (draws == 3 and (i == k or j == k)):
            continue
        a, b, c, d, scale = of_three(points, i, j, k) if draws == 3 else of_two(points, i, j)
        if scale == 0.0 or not local_is_plausible(a, b, c, d, scale, limits):
            continue
        a, b, c, d = a / scale, b / scale, c / scale, d / scale
        u, v = (
            points[2, i] - a * points[0, i] - b * points[1, i],
            points[3, i] - c * points[0, i] - d * points[1, i],
        )
        quick = _quick_score(coarse, 0, chunk, (a, b, c, d), u, v, per_px2)
        if quick <= FULL * ((i < chunk) + (j < chunk) + (draws == 3 and k < chunk)):
            continue
        quick += _quick_score(coarse, chunk, size, (a, b, c, d), u, v, per_px2)
        if quick <= quickest:
            continue
        quickest = quick
        h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8] = a, b, u, c, d, v, 0.0, 0.0, 1.0
        count, score = _optimise(points, places, taken, model, max_error, limits, h, rows)
        if score > best_score:
            best_score, best_count = score, count
            hit = (count / size) ** draws
            for i in range(9):
                best[i] = h[i]
            for i in range(count):
                best_rows[i] = rows[i]
    return best_count


@compiled
def _optimise(
    points: np.ndarray,
    places: np.ndarray,
    taken: np.ndarray,
    model: int,
    max_error: float,
    limits: Limits,
    h: np.ndarray,
    rows: np.ndarray,
) -> tuple[int, float]:
    """h fitted again and again to its inliers, in place; number and score of those that it ends with, left in rows."""
    other, margin = np.empty(9), MARGIN
    score = _inliers(points, places, taken, h, max_error, rows)[1]
    for _ in range(MAX_ROUNDS):
        support, value = _inliers(points, places, taken, h, margin * max_error, rows)[0], 0.0
        for level in range(min(model, support // SUPPORT - 2), -1, -1):
            if fit_rows(level, points, rows[:support], other) and rows_are_plausible(
                other, points, rows[:support], limits
            ):
                value = _inliers(points, places, taken, other, max_error, rows)[1]
                break
        if value > score:
            score = value
            for i in range(9):
                h[i] = other[i]
        elif margin > 1.0:
            margin = 1.0
        else:
            break
    return _inliers(points, places, taken, h, max_error, rows)


@compiled
def _inliers(
    points: np.ndarray,
    places: np.ndarray,
    taken: np.ndarray,
    h: np.ndarray,
    max_error: float,
    rows: np.ndarray,
) -> tuple[int, float]:
    """Rows of the inliers, best match first and one per place; their number, and 1 - (residual / max_error)^2 summed."""
    count, score, limit = 0, 0.0, max_error * max_error
    for k in range(points.shape[1]):
        x, y = points[0, k], points[1, k]
        w = h[6] * x + h[7] * y + h[8]
        du, dv = (
            (h[0] * x + h[1] * y + h[2]) / w - points[2, k],
            (h[3] * x + h[4] * y + h[5]) / w - points[3, k],
        )
        square = du * du + dv * dv
        if square <= limit and not (taken[0, places[0, k]] or taken[1, places[1, k]]):
            taken[0, places[0, k]] = taken[1, places[1, k]] = True
            rows[count] = k
            count += 1
            score += 1.0 - square / limit
    for row in rows[:count]:
        taken[0, places[0, row]] = taken[1, places[1, row]] = False
    return count, score


@compiled
def _quick_score(
    points: np.ndarray, start: int, stop: int, linear: Linear, u: float, v: float, per_px2: float
) -> int:
    """As the score of `_inliers`, of points [4, K] float32 from start to stop, several at a time and many to one."""
    a, b, c, d = (
        np.float32(linear[0]),
        np.float32(linear[1]),
        np.float32(linear[2]),
        np.float32(linear[3]),
    )
    xs, ys, us, vs, right, down, score = (
        points[0],
        points[1],
        points[2],
        points[3],
        np.float32(u),
        np.float32(v),
        0,
    )
    for k in range(start, stop):
        du, dv = a * xs[k] + b * ys[k] + right - us[k], c * xs[k] + d * ys[k] + down - vs[k]
        gain = np.float32(FULL) - (du * du + dv * dv) * per_px2
        score += int(np.int32(gain if gain > 0 else np.float32(0.0)))
    return score


@compiled
def _number_places(xs: np.ndarray, ys: np.ndarray, place_px: float, places: np.ndarray) -> None:
    """For each point the first one in its cell, by a hash table with open addresses."""
    size = 4
    while size < 2 * len(xs):
        size *= 2
    table = np.zeros(size, np.int64)  # 0 is free, k + 1 is point k
    for k in range(len(xs)):
        column, line = np.floor(xs[k] / place_px), np.floor(ys[k] / place_px)
        slot = np.int64(mixed(np.uint64(np.int64(column)) ^ mixed(np.uint64(np.int64(line))))) & (
            size - 1
        )
        while table[slot] > 0:
            other = table[slot] - 1
            if np.floor(xs[other] / place_px) == column and np.floor(ys[other] / place_px) == line:
                break
            slot = (slot + 1) & (size - 1)
        if table[slot] == 0:
            table[slot] = k + 1
        places[k] = table[slot] - 1
