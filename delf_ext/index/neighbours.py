"""Each image's nearest neighbours among the images of its own set, without an N x N matrix.

A product of two embeddings serves both images, so only the tiles on and above the diagonal are computed: half of a full matrix
product. Each tile is scanned once, for its rows and its columns. The float32 products only choose who may be a neighbour: a sum
of D products is off by at most D * 2^-24 times the lengths, in whatever order it is summed (Higham 2002, section 3.1), so all
that may stand among the k nearest lies within twice that of the k-th highest product. What lies there is kept, and compared by
the exact similarities of `delf_ext.index.exact`: the result is that of its `search` with the set as query and gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numba
import numpy as np

from data_io.records import GlobalFeatures
from delf_ext.compiled import compiled
from delf_ext.index.exact import UNITS_PER_ONE, search

TILE_ROWS = 2048  # 16 MB of products
SCANNED_AT_ONCE = 32
SLACK = 16  # room in a list beside its k
CROWDED_AT_ONCE = 2048  # images searched for exactly
PAIRS_PER_BLOCK = 2**18
NUM_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]

# Sums of whole numbers below 2^53 are exact in any order, so these may be vectorised.
compiled_for_whole_numbers = partial(compiled, fastmath={"reassoc", "contract"})


@dataclass(frozen=True, eq=False)
class Neighbours:
    """rows [N, k] int32, nearest first, an image itself among its own, and similarities [N, k] float32.

    lowest_similarities [N] float32: each image's to the farthest image of the whole set.
    """

    rows: np.ndarray
    similarities: np.ndarray
    lowest_similarities: np.ndarray


class _Lists(NamedTuple):
    """Per image what may be among the k highest of its products, in no order: rows and products [N, C], the first counts [N].

    limits [N]: a lower product is out; infinity where more than C lie too close together for float32.
    """

    rows: np.ndarray
    products: np.ndarray
    counts: np.ndarray
    limits: np.ndarray
    k: int
    margin: float

    @staticmethod
    def empty(num_images: int, num_dims: int, k: int) -> _Lists:
        shape, margin = (num_images, k + max(k, SLACK)), 2 * _product_error(num_dims)
        counts, limits = np.zeros(num_images, np.int32), np.full(num_images, -np.inf, np.float32)
        return _Lists(np.empty(shape, np.int32), np.empty(shape, np.float32), counts, limits, k, margin)


def _product_error(num_dims: int) -> float:
    """Largest |float32 product - exact similarity| for lengths to 1.001: summing, rounding to 2^-26, rounding the results."""
    return 1.01 * (num_dims * 2.0**-24 / (1 - num_dims * 2.0**-24) + num_dims**0.5 * 2.0**-26 + 2.0**-23)


def nearest_neighbours(embeddings: np.ndarray, k: int, give_up: Callable[[float], bool] | None = None) -> Neighbours:
    """The k nearest rows of each row by cosine similarity, ties by lowest row; no more than N.

    embeddings [N, D] float32, unit length as in GlobalFeatures. give_up: asked after each tile with the share of tiles done.
    Time: half a matrix product N x N x D and its scan. Where float32 cannot tell more than max(k, 16) others from an image's k-th
    or 16 from its farthest (copies), it is searched for exactly; if that were all images, this is two full products in float64.
    Memory beside embeddings and result: N (8 max(2k, k + 16) + 200) bytes and, whatever N, about 100 MB.
    Raises: ValueError on no rows or k below 1; TimeoutError where `give_up` answered True.
    """
    if embeddings.ndim != 2 or not len(embeddings) or k < 1:
        raise ValueError(f"neighbours need embeddings [N, D] and k of at least 1. Received shape={embeddings.shape}, k={k}.")
    embeddings = np.ascontiguousarray(embeddings, np.float32)
    num_images, num_dims = embeddings.shape
    near, far = (_Lists.empty(num_images, num_dims, wanted) for wanted in (min(k, num_images), 1))

    def go_on(share: float) -> None:
        if give_up is not None and give_up(share):
            raise TimeoutError(f"neighbours given up after {share:.0%} of the products.")

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for share in _scanned(embeddings, near, far, pool):
            go_on(share)
    rows, similarities = _best(embeddings, near, 1)
    lowest = -_best(embeddings, far, -1)[1][:, 0]
    crowded = np.flatnonzero(np.isposinf(near.limits) | np.isposinf(far.limits))
    for start in range(0, len(crowded), CROWDED_AT_ONCE):
        go_on(1.0)
        some = crowded[start : start + CROWDED_AT_ONCE]
        rows[some], similarities[some], lowest[some] = _searched(embeddings, some, near.k)
    return Neighbours(rows, similarities, lowest)


def pair_similarities(left: np.ndarray, right: np.ndarray, left_rows: np.ndarray, right_rows: np.ndarray) -> np.ndarray:
    """Exact cosine similarities [P] float32 of the pairs left[left_rows[p]], right[right_rows[p]], bit by bit those of `search`.

    left [A, D], right [B, D] float32 of unit length; left_rows, right_rows [P] int, fastest where equal left rows are together.
    """
    result, bounds = np.empty(len(left_rows), np.float32), np.linspace(0, len(left_rows), NUM_THREADS + 1).astype(np.int64)
    parts = [slice(*part) for part in zip(bounds, bounds[1:])]
    left, right = left.view(), right.view()
    for values in (left, right):
        values.setflags(write=False)  # another type would be compiled anew
    left_rows, right_rows = left_rows.astype(np.int32, copy=False), right_rows.astype(np.int32, copy=False)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(lambda part: _pairs(left, right, left_rows[part], right_rows[part], result[part]), parts))
    return result


def _scanned(embeddings: np.ndarray, near: _Lists, far: _Lists, pool: ThreadPoolExecutor) -> Iterator[float]:
    """Fills the lists; the share of tiles done, after each."""
    starts = range(0, len(embeddings), TILE_ROWS)
    tiles = [(top, side) for number, top in enumerate(starts) for side in starts[number:]]
    for done, (top, side) in enumerate(tiles):
        products = embeddings[top : top + TILE_ROWS] @ embeddings[side : side + TILE_ROWS].T
        bounds = [np.linspace(0, length, NUM_THREADS + 1).astype(np.int64) for length in products.shape]
        # In each turn no two threads have rows or columns in common. A diagonal tile holds each pair twice.
        for turn in range(NUM_THREADS):
            parts = [(own, (own + turn) % NUM_THREADS) for own in range(NUM_THREADS)]
            areas = [(*bounds[0][a : a + 2], *bounds[1][b : b + 2]) for a, b in parts]
            list(pool.map(lambda area: _scan(products, area, top, side, near, far), areas))  # noqa: B023 (ends before the next)
        yield (done + 1) / len(tiles)


def _best(embeddings: np.ndarray, lists: _Lists, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and sign * similarities [N, k] of each list's highest; those of a list whose limit is infinite mean nothing."""
    num_images, width = lists.rows.shape
    rows, similarities = np.zeros((num_images, lists.k), np.int32), np.zeros((num_images, lists.k), np.float32)
    step = max(1, PAIRS_PER_BLOCK // width)
    for start in range(0, num_images, step):
        kept = lists.rows[start : start + step].copy()
        kept[np.arange(width) >= lists.counts[start : start + step, np.newaxis]] = num_images  # sorts last
        kept.sort(axis=1)
        used = kept < num_images
        exact = np.full(kept.shape, -np.inf, np.float32)
        exact[used] = sign * pair_similarities(embeddings, embeddings, start + np.nonzero(used)[0], kept[used])
        order = np.argsort(-exact, axis=1, kind="stable")[:, : lists.k]
        rows[start : start + step] = np.take_along_axis(kept, order, axis=1)
        similarities[start : start + step] = np.take_along_axis(exact, order, axis=1)
    return rows, similarities


def _searched(embeddings: np.ndarray, some: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and similarities [n, k] of some images' nearest, and their lowest similarities [n], by exact search."""
    ids = np.arange(len(embeddings)).astype(str)
    everything = GlobalFeatures(ids, embeddings)
    found = search(GlobalFeatures(ids[some], embeddings[some]), everything, k)
    return found.rows, found.scores, -search(GlobalFeatures(ids[some], -embeddings[some]), everything, 1).scores[:, 0]


@compiled
def _scan(products: np.ndarray, area: tuple[int, int, int, int], top: int, side: int, near: _Lists, far: _Lists) -> None:
    """Adds what an area (rows from, to, columns from, to) holds to the lists of its rows and, off the diagonal, its columns."""
    columns = slice(side + area[2], side + area[3])
    near_limits, far_limits = near.limits[columns], far.limits[columns]
    found = np.empty(len(near_limits) // SCANNED_AT_ONCE + 1, np.int64)
    for i in range(area[0], area[1]):
        row, line = top + i, products[i, area[2] : area[3]]
        for start in found[: _find_runs(line, near.limits[row], far.limits[row], near_limits, far_limits, found)]:
            for j in range(start, min(start + SCANNED_AT_ONCE, len(line))):
                p, column = line[j], columns.start + j
                if p >= near.limits[row]:
                    _add(near, row, column, p)
                if -p >= far.limits[row]:
                    _add(far, row, column, -p)
                if top != side and p >= near_limits[j]:
                    _add(near, column, row, p)
                if top != side and -p >= far_limits[j]:
                    _add(far, column, row, -p)


@compiled
def _find_runs(
    line: np.ndarray, near: float, far: float, near_limits: np.ndarray, far_limits: np.ndarray, found: np.ndarray
) -> int:
    """Puts the starts of the runs of products of which one is not below a limit into `found`; how many."""
    num_found = 0
    for start in range(0, len(line), SCANNED_AT_ONCE):
        run = slice(start, start + SCANNED_AT_ONCE)
        products, nears, fars, hits = line[run], near_limits[run], far_limits[run], 0
        for j in range(len(products)):  # without a branch, so that it is vectorised
            p = products[j]
            hits += (p >= near) | (-p >= far) | (p >= nears[j]) | (-p >= fars[j])
        if hits:
            found[num_found] = start
            num_found += 1
    return num_found


@compiled
def _add(lists: _Lists, image: int, row: int, product: float) -> None:
    """A product not below the limit; where the list is full, the limit rises first."""
    if lists.counts[image] == lists.rows.shape[1]:
        _thin_out(lists, image)
        if product < lists.limits[image]:
            return
    lists.rows[image, lists.counts[image]], lists.products[image, lists.counts[image]] = row, product
    lists.counts[image] += 1


@compiled
def _thin_out(lists: _Lists, image: int) -> None:
    """Keeps of a full list what may be among the k highest; the limit becomes infinite where that is all of it."""
    rows, products, kept = lists.rows[image], lists.products[image], 0
    limit = np.partition(products, len(products) - lists.k)[len(products) - lists.k] - lists.margin
    for place in range(len(products)):
        if products[place] >= limit:
            rows[kept], products[kept] = rows[place], products[place]
            kept += 1
    lists.counts[image], lists.limits[image] = kept, limit if kept < len(products) else np.inf


@compiled_for_whole_numbers
def _pairs(left: np.ndarray, right: np.ndarray, left_rows: np.ndarray, right_rows: np.ndarray, result: np.ndarray) -> None:
    units, held = np.empty(left.shape[1]), -1
    for p in range(len(result)):
        if left_rows[p] != held:
            held = left_rows[p]
            for d in range(len(units)):
                units[d] = np.rint(np.float64(left[held, d]) * UNITS_PER_ONE)
        total, other = 0.0, right_rows[p]
        for d in range(len(units)):
            total += units[d] * np.rint(np.float64(right[other, d]) * UNITS_PER_ONE)
        result[p] = total * UNITS_PER_ONE**-2
