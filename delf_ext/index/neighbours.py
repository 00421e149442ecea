"""Find the nearest neighbours of each image in its own set, without an N x N matrix.

The product of two embeddings serves both images. So only the tiles on and above the diagonal are
computed, half of a full matrix product, and each tile is scanned once for its rows and its columns.
The float32 products choose shortlists, which are ranked exactly (see `shortlist`). So the result is
the same as that of `delf_ext.index.exact.search` with the set as query and gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from delf_ext.compiled import NUM_THREADS, compiled
from delf_ext.index.exact import search_everything
from delf_ext.index.shortlist import Shortlists, add, rank_exactly

# 16 MB of products.
TILE_ROWS = 2048
SCANNED_AT_ONCE = 32
# Images of one block that are compared with everything.
CROWDED_AT_ONCE = 512

# Rows from, rows to, columns from, columns to within a tile.
Area = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Nearest neighbours of the images of a set.

    Attributes:
        rows: int32 [N, k], nearest first; an image is among its own neighbours.
        similarities: float32 [N, k] cosine.
        lowest_similarities: float32 [N], of each image to the farthest image of the set.
    """

    rows: np.ndarray
    similarities: np.ndarray
    lowest_similarities: np.ndarray


def nearest_neighbours(
    embeddings: np.ndarray, k: int, give_up: Callable[[float], bool] | None = None
) -> Neighbours:
    """Find the k nearest rows of each row by cosine similarity, ties by lowest row.

    It takes the time of half a matrix product N x N x D and a scan. If very many images are copies,
    they are compared with everything; if all are, that is two full products in float64. It needs
    N (8 max(2k, k + 16) + 200) bytes and about 100 MB, besides embeddings and result.

    Args:
        embeddings: float32 [N, D], unit length as in GlobalFeatures.
        k: number of neighbours, at most N are returned.
        give_up: called after each tile with the completed fraction; True ends the search.

    Returns:
        The neighbours of all images.

    Raises:
        ValueError: if there are no rows, or k is below 1.
        TimeoutError: if `give_up` returned True.
    """
    if embeddings.ndim != 2 or not len(embeddings) or k < 1:
        raise ValueError(
            "nearest_neighbours needs embeddings [N, D] and k of at least 1. "
            f"Received shape={embeddings.shape}, k={k}."
        )
    embeddings = np.ascontiguousarray(embeddings, np.float32)
    num_images, num_dims = embeddings.shape
    errors = np.zeros(num_images, np.float32)
    near = Shortlists.empty(num_images, num_dims, min(k, num_images), errors)
    far = Shortlists.empty(num_images, num_dims, 1, errors)

    def check_time(fraction: float) -> None:
        if give_up is not None and give_up(fraction):
            raise TimeoutError(f"neighbours given up after {fraction:.0%} of the products.")

    for fraction in _scan_tiles(embeddings, near, far):
        check_time(fraction)
    rows, similarities = rank_exactly(embeddings, embeddings, near)
    lowest = -rank_exactly(embeddings, embeddings, far, sign=-1)[1][:, 0]
    crowded = np.union1d(near.crowded(), far.crowded())
    for start in range(0, len(crowded), CROWDED_AT_ONCE):
        check_time(1.0)
        block = crowded[start : start + CROWDED_AT_ONCE]
        rows[block], similarities[block] = search_everything(embeddings[block], embeddings, near.k)
        lowest[block] = -search_everything(-embeddings[block], embeddings, 1)[1][:, 0]
    return Neighbours(rows, similarities, lowest)


def _scan_tiles(embeddings: np.ndarray, near: Shortlists, far: Shortlists) -> Iterator[float]:
    """Fill the lists; yield the completed fraction after each tile."""
    starts = range(0, len(embeddings), TILE_ROWS)
    tiles = [(top, side) for number, top in enumerate(starts) for side in starts[number:]]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for num_done, (top, side) in enumerate(tiles, start=1):
            products = embeddings[top : top + TILE_ROWS] @ embeddings[side : side + TILE_ROWS].T
            scan = partial(_scan, products, top, side, near, far)
            for areas in _areas_by_turn(products.shape):
                list(pool.map(scan, areas))
            yield num_done / len(tiles)


def _areas_by_turn(shape: tuple[int, ...]) -> Iterator[list[Area]]:
    """Yield areas that together cover a tile; those of one turn share no row and no column.

    So no two threads change the same list. (A tile on the diagonal holds each pair twice, and only
    its rows are scanned.)
    """
    rows, columns = (
        list(pairwise(np.linspace(0, length, NUM_THREADS + 1).astype(np.int64))) for length in shape
    )
    for turn in range(NUM_THREADS):
        yield [(*rows[r], *columns[(r + turn) % NUM_THREADS]) for r in range(NUM_THREADS)]


@compiled
def _scan(
    products: np.ndarray, top: int, side: int, near: Shortlists, far: Shortlists, area: Area
) -> None:
    """Add the products of an area to the lists of its rows and, off the diagonal, its columns."""
    columns = slice(side + area[2], side + area[3])
    near_limits = near.limits[columns]
    far_limits = far.limits[columns]
    starts = np.empty(len(near_limits) // SCANNED_AT_ONCE + 1, np.int64)
    for i in range(area[0], area[1]):
        row = top + i
        line = products[i, area[2] : area[3]]
        num_runs = _find_runs(
            line, near.limits[row], far.limits[row], near_limits, far_limits, starts
        )
        for start in starts[:num_runs]:
            for j in range(start, min(start + SCANNED_AT_ONCE, len(line))):
                p = line[j]
                column = columns.start + j
                if p >= near.limits[row]:
                    add(near, row, column, p)
                if -p >= far.limits[row]:
                    add(far, row, column, -p)
                if top != side and p >= near_limits[j]:
                    add(near, column, row, p)
                if top != side and -p >= far_limits[j]:
                    add(far, column, row, -p)


@compiled
def _find_runs(
    line: np.ndarray,
    near_limit: float,
    far_limit: float,
    near_limits: np.ndarray,
    far_limits: np.ndarray,
    starts: np.ndarray,
) -> int:
    """Write to `starts` the start of each run with a product above a limit; return their number."""
    num_runs = 0
    for start in range(0, len(line), SCANNED_AT_ONCE):
        run = slice(start, start + SCANNED_AT_ONCE)
        products = line[run]
        nears = near_limits[run]
        fars = far_limits[run]
        # Without a branch in the loop, so that it is vectorised.
        num_hits = 0
        for j in range(len(products)):
            p = products[j]
            num_hits += (p >= near_limit) | (-p >= far_limit) | (p >= nears[j]) | (-p >= fars[j])
        if num_hits:
            starts[num_runs] = start
            num_runs += 1
    return num_runs
