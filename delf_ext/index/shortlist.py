"""Who may be among the k nearest, told by fast products that are not exact; then the exact similarities of those few.

A product is off by no more than a bound that is known. So all that may stand among the k nearest lies within twice that bound of
the k-th highest product: that is kept, and ordered by exact similarity. The result is that of comparing everything exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from delf_ext.compiled import compiled
from delf_ext.index.similarities import NUM_THREADS, pair_similarities, product_error

PRODUCTS_PER_TILE = 2**20  # 4 MB: still in cache when they are scanned
SCANNED_AT_ONCE = 64
SLACK = 16  # room in a list beside its k
PAIRS_PER_BLOCK = 2**18


class Shortlists(NamedTuple):
    """Per image what may be among the k highest of its products, in no order: rows and products [N, C], the first counts [N].

    errors [G]: how far the products of a gallery row may be off, beside the margin. limits [N]: a product that does not reach it
    even with its error is out; infinity where more than C lie too close together.
    """

    rows: np.ndarray
    products: np.ndarray
    counts: np.ndarray
    limits: np.ndarray
    errors: np.ndarray
    k: int
    margin: float

    @staticmethod
    def empty(
        num_images: int, num_dims: int, k: int, errors: np.ndarray, room: int = SLACK
    ) -> Shortlists:
        """For products in float32 of `num_dims` components; C is k + max(k, room)."""
        shape, margin = (num_images, k + max(k, room)), 2 * product_error(num_dims)
        counts, limits = np.zeros(num_images, np.int32), np.full(num_images, -np.inf, np.float32)
        return Shortlists(
            np.empty(shape, np.int32),
            np.empty(shape, np.float32),
            counts,
            limits,
            errors,
            k,
            margin,
        )

    def crowded(self) -> np.ndarray:
        """The images [n] whose list is no use: more than it holds lie too close together."""
        return np.flatnonzero(np.isposinf(self.limits))


def fill(lists: Shortlists, query: np.ndarray, tiles: Iterable[np.ndarray]) -> None:
    """Adds the products of query [N, D] with a gallery that comes in tiles of up to `tile_rows(N)` rows, float32."""
    products, first = np.empty((len(query), tile_rows(len(query))), np.float32), 0
    bounds = np.linspace(0, len(query), NUM_THREADS + 1).astype(np.int64)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for tile in tiles:
            np.matmul(query, tile.T, out=products[:, : len(tile)])
            area = first, first + len(tile)
            list(pool.map(lambda part: _scan(products, part, area, lists), zip(bounds, bounds[1:])))  # noqa: B023 (ends before)
            first += len(tile)


def tile_rows(num_queries: int) -> int:
    return max(1, PRODUCTS_PER_TILE // num_queries)


def best(
    left: np.ndarray, right: np.ndarray, lists: Shortlists, sign: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Rows [N, k] of the k highest by sign * similarity, ties by lowest row, and these; of crowded images they mean nothing.

    left [N, D], right [G, D] float32: what the lists' images and rows are.
    """
    _thin_out_all(lists)
    num_images, width = len(lists.rows), max(lists.k, lists.counts.max())
    rows, similarities = (
        np.zeros((num_images, lists.k), np.int32),
        np.zeros((num_images, lists.k), np.float32),
    )
    step = max(1, PAIRS_PER_BLOCK // width)
    for start in range(0, num_images, step):
        kept = lists.rows[start : start + step, :width].copy()
        kept[np.arange(width) >= lists.counts[start : start + step, np.newaxis]] = len(
            right
        )  # sorts last
        kept.sort(axis=1)
        used = kept < len(right)
        exact = np.full(kept.shape, -np.inf, np.float32)
        exact[used] = sign * pair_similarities(left, right, start + np.nonzero(used)[0], kept[used])
        order = np.argsort(-exact, axis=1, kind="stable")[
            :, : lists.k
        ]  # rows ascend: of equal ones the lowest first
        rows[start : start + step] = np.take_along_axis(kept, order, axis=1)
        similarities[start : start + step] = np.take_along_axis(exact, order, axis=1)
    return rows, similarities


@compiled
def add(lists: Shortlists, image: int, row: int, product: float) -> None:
    """A product that reaches the limit; where the list is full, the limit rises first."""
    if lists.counts[image] == lists.rows.shape[1]:
        _thin_out(lists, image)
        if product + lists.errors[row] < lists.limits[image]:
            return
    lists.rows[image, lists.counts[image]], lists.products[image, lists.counts[image]] = (
        row,
        product,
    )
    lists.counts[image] += 1


@compiled
def _thin_out(lists: Shortlists, image: int) -> None:
    """Keeps of a list what may be among the k highest; the limit becomes infinite where that is more than fits."""
    count, kept = lists.counts[image], 0
    rows, products = lists.rows[image, :count], lists.products[image, :count]
    lows, highs = products - lists.errors[rows], products + lists.errors[rows]
    limit = np.partition(lows, count - lists.k)[count - lists.k] - lists.margin
    for place in range(count):
        if highs[place] >= limit:
            rows[kept], products[kept] = rows[place], products[place]
            kept += 1
    lists.counts[image], lists.limits[image] = kept, limit if kept < lists.rows.shape[1] else np.inf


@compiled
def _thin_out_all(lists: Shortlists) -> None:
    for image in range(len(lists.counts)):
        if lists.k < lists.counts[image] and lists.limits[image] < np.inf:
            _thin_out(lists, image)


@compiled
def _scan(
    products: np.ndarray, images: tuple[int, int], area: tuple[int, int], lists: Shortlists
) -> None:
    """Adds for some images what the products with gallery rows area[0] to area[1] hold."""
    errors = lists.errors[area[0] : area[1]]
    for image in range(images[0], images[1]):
        line, limit = products[image, : len(errors)], lists.limits[image]
        for start in range(0, len(line), SCANNED_AT_ONCE):
            hits = 0
            run, offs = (
                line[start : start + SCANNED_AT_ONCE],
                errors[start : start + SCANNED_AT_ONCE],
            )
            for j in range(len(run)):  # without a branch, so that it is vectorised
                hits += run[j] + offs[j] >= limit
            if hits:
                for j in range(len(run)):
                    if run[j] + offs[j] >= limit:
                        add(lists, image, area[0] + start + j, run[j])
                        limit = lists.limits[image]
