"""Choose a shortlist by fast inexact products, then rank it by exact similarities.

A float32 product differs from the exact similarity by at most a known bound. So each image among
the k nearest has a product of at least the k-th highest product minus twice the bound. The
shortlist keeps all images above this limit, and the exact similarities of these few decide. The
result is the same as if all images were compared exactly.

A list has a fixed size. If more images are above the limit than fit, because they are copies or
nearly copies, the list is "crowded": then the caller compares this image with everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from delf_ext.compiled import NUM_THREADS, compiled
from delf_ext.index.similarities import pair_similarities, product_error

# 4 MB, which are still in the cache when they are scanned.
PRODUCTS_PER_TILE = 2**20
SCANNED_AT_ONCE = 64
# Least number of images in a list in addition to k.
EXTRA_ROOM = 16
PAIRS_PER_BLOCK = 2**18


class Shortlists(NamedTuple):
    """Shortlists of N images: gallery rows that may be among their k nearest.

    Attributes:
        rows: int32 [N, C] gallery rows in no order; the first `counts` of each line are used.
        products: float32 [N, C] of these rows.
        counts: int32 [N].
        limits: float32 [N]; a row is out if its product plus its error is below. Infinite if the
            list is crowded.
        errors: float32 [G], how much the products of a gallery row may be wrong in addition to the
            rounding.
        k: number of nearest images to find.
        margin: twice the bound on rounding.
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
        num_images: int, num_dims: int, k: int, errors: np.ndarray, extra_room: int = EXTRA_ROOM
    ) -> Shortlists:
        """Return empty lists for float32 products.

        Args:
            num_images: N.
            num_dims: number of components of the embeddings.
            k: number of nearest images to find.
            errors: float32 [G], see the attribute.
            extra_room: a list holds k + max(k, extra_room) rows.

        Returns:
            Lists without rows.
        """
        shape = (num_images, k + max(k, extra_room))
        return Shortlists(
            rows=np.empty(shape, np.int32),
            products=np.empty(shape, np.float32),
            counts=np.zeros(num_images, np.int32),
            limits=np.full(num_images, -np.inf, np.float32),
            errors=errors,
            k=k,
            margin=2 * product_error(num_dims),
        )

    def crowded(self) -> np.ndarray:
        """Return the images whose list is too small to be used.

        Returns:
            int64 [n], ascending.
        """
        return np.flatnonzero(np.isposinf(self.limits))


def fill(lists: Shortlists, query: np.ndarray, tiles: Iterable[np.ndarray]) -> None:
    """Add the products of the queries with the gallery to the lists.

    Args:
        lists: of N queries, changed in place.
        query: float32 [N, D].
        tiles: the gallery in order, float32 [T, D] each with T up to `tile_rows(N)`.
    """
    products = np.empty((len(query), tile_rows(len(query))), np.float32)
    bounds = np.linspace(0, len(query), NUM_THREADS + 1).astype(np.int64)
    first = 0
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for tile in tiles:
            np.matmul(query, tile.T, out=products[:, : len(tile)])
            scan = partial(_scan, lists, products, first, first + len(tile))
            list(pool.map(scan, bounds[:-1], bounds[1:]))
            first += len(tile)


def tile_rows(num_queries: int) -> int:
    """Return how many gallery rows a tile holds at most."""
    return max(1, PRODUCTS_PER_TILE // num_queries)


def rank_exactly(
    left: np.ndarray, right: np.ndarray, lists: Shortlists, sign: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Rank each shortlist by exact similarity.

    Args:
        left: float32 [N, D], the images that the lists belong to.
        right: float32 [G, D], the gallery.
        lists: of the N images; rows that are surely out are removed.
        sign: -1 to rank the farthest first; then the products in the lists must be negative too.

    Returns:
        Rows int32 [N, k] of the highest sign * similarity, ties by lowest row, and these values
        float32 [N, k]. They have no meaning for crowded lists.
    """
    _thin_out_all(lists)
    num_images = len(lists.rows)
    width = max(lists.k, lists.counts.max())
    top_rows = np.zeros((num_images, lists.k), np.int32)
    top_similarities = np.zeros((num_images, lists.k), np.float32)
    step = max(1, PAIRS_PER_BLOCK // width)
    for start in range(0, num_images, step):
        block = slice(start, start + step)
        rows = lists.rows[block, :width].copy()
        # Unused entries become len(right), which is sorted behind all rows.
        rows[np.arange(width) >= lists.counts[block, np.newaxis]] = len(right)
        rows.sort(axis=1)
        is_used = rows < len(right)
        left_rows = start + np.nonzero(is_used)[0]
        exact = np.full(rows.shape, -np.inf, np.float32)
        exact[is_used] = sign * pair_similarities(left, right, left_rows, rows[is_used])
        # Rows ascend, so a stable sort puts the lowest of equal ones first.
        order = np.argsort(-exact, axis=1, kind="stable")[:, : lists.k]
        top_rows[block] = np.take_along_axis(rows, order, axis=1)
        top_similarities[block] = np.take_along_axis(exact, order, axis=1)
    return top_rows, top_similarities


@compiled
def add(lists: Shortlists, image: int, row: int, product: float) -> None:
    """Add to an image's list a gallery row whose product reaches the limit.

    If the list is full, the limit rises first, and then the row may be out.

    Args:
        lists: changed in place.
        image: whose list.
        row: gallery row.
        product: of the image and that row.
    """
    if lists.counts[image] == lists.rows.shape[1]:
        _thin_out(lists, image)
        if product + lists.errors[row] < lists.limits[image]:
            return
    lists.rows[image, lists.counts[image]] = row
    lists.products[image, lists.counts[image]] = product
    lists.counts[image] += 1


@compiled
def _thin_out(lists: Shortlists, image: int) -> None:
    """Raise the limit of a list and remove the rows below it; infinite if all rows stay."""
    count = lists.counts[image]
    rows = lists.rows[image, :count]
    products = lists.products[image, :count]
    lows = products - lists.errors[rows]
    highs = products + lists.errors[rows]
    limit = np.partition(lows, count - lists.k)[count - lists.k] - lists.margin
    num_kept = 0
    for place in range(count):
        if highs[place] >= limit:
            rows[num_kept] = rows[place]
            products[num_kept] = products[place]
            num_kept += 1
    lists.counts[image] = num_kept
    lists.limits[image] = limit if num_kept < lists.rows.shape[1] else np.inf


@compiled
def _thin_out_all(lists: Shortlists) -> None:
    for image in range(len(lists.counts)):
        if lists.k < lists.counts[image] and lists.limits[image] < np.inf:
            _thin_out(lists, image)


@compiled
def _scan(
    lists: Shortlists, products: np.ndarray, low: int, high: int, first: int, stop: int
) -> None:
    """Add the products of the gallery rows low to high to the lists of the images first to stop."""
    errors = lists.errors[low:high]
    for image in range(first, stop):
        line = products[image, : len(errors)]
        limit = lists.limits[image]
        for start in range(0, len(line), SCANNED_AT_ONCE):
            run = line[start : start + SCANNED_AT_ONCE]
            run_errors = errors[start : start + SCANNED_AT_ONCE]
            # Without a branch in the loop, so that it is vectorised.
            num_hits = 0
            for j in range(len(run)):
                num_hits += run[j] + run_errors[j] >= limit
            if num_hits:
                for j in range(len(run)):
                    if run[j] + run_errors[j] >= limit:
                        add(lists, image, low + start + j, run[j])
                        limit = lists.limits[image]
