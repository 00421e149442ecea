"""Each image's nearest neighbours among the images of its own set, without an N x N matrix.

A product of two embeddings serves both images, so only the tiles on and above the diagonal are computed: half of a full matrix
product. Each tile is scanned once, for its rows and its columns. Its float32 products choose shortlists, compared exactly: the
result is that of `delf_ext.index.exact.search` with the set as query and gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from delf_ext.compiled import compiled
from delf_ext.index.exact import search_everything
from delf_ext.index.shortlist import Shortlists, add, best
from delf_ext.index.similarities import NUM_THREADS

TILE_ROWS = 2048  # 16 MB of products
SCANNED_AT_ONCE = 32
CROWDED_AT_ONCE = 512  # images compared with everything


@dataclass(frozen=True, eq=False)
class Neighbours:
    """rows [N, k] int32, nearest first, an image itself among its own, and similarities [N, k] float32.

    lowest_similarities [N] float32: each image's to the farthest image of the whole set.
    """

    rows: np.ndarray
    similarities: np.ndarray
    lowest_similarities: np.ndarray


def nearest_neighbours(
    embeddings: np.ndarray, k: int, give_up: Callable[[float], bool] | None = None
) -> Neighbours:
    """The k nearest rows of each row by cosine similarity, ties by lowest row; no more than N.

    embeddings [N, D] float32, unit length as in GlobalFeatures. give_up: asked after each tile with the share of tiles done.
    Time: half a matrix product N x N x D and its scan. Where float32 cannot tell more than max(k, 16) others from an image's k-th
    or 16 from its farthest (copies), it is searched for exactly; if that were all images, this is two full products in float64.
    Memory beside embeddings and result: N (8 max(2k, k + 16) + 200) bytes and, whatever N, about 100 MB.
    Raises: ValueError on no rows or k below 1; TimeoutError where `give_up` answered True.
    """
    if embeddings.ndim != 2 or not len(embeddings) or k < 1:
        raise ValueError(
            f"neighbours need embeddings [N, D] and k of at least 1. Received shape={embeddings.shape}, k={k}."
        )
    embeddings = np.ascontiguousarray(embeddings, np.float32)
    num_images, num_dims = embeddings.shape
    errors = np.zeros(num_images, np.float32)
    near, far = (
        Shortlists.empty(num_images, num_dims, wanted, errors) for wanted in (min(k, num_images), 1)
    )

    def go_on(share: float) -> None:
        if give_up is not None and give_up(share):
            raise TimeoutError(f"neighbours given up after {share:.0%} of the products.")

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for share in _scanned(embeddings, near, far, pool):
            go_on(share)
    rows, similarities = best(embeddings, embeddings, near)
    lowest = -best(embeddings, embeddings, far, sign=-1)[1][:, 0]
    crowded = np.union1d(near.crowded(), far.crowded())
    for start in range(0, len(crowded), CROWDED_AT_ONCE):
        go_on(1.0)
        some = crowded[start : start + CROWDED_AT_ONCE]
        rows[some], similarities[some] = search_everything(embeddings[some], embeddings, near.k)
        lowest[some] = -search_everything(-embeddings[some], embeddings, 1)[1][:, 0]
    return Neighbours(rows, similarities, lowest)


def _scanned(
    embeddings: np.ndarray, near: Shortlists, far: Shortlists, pool: ThreadPoolExecutor
) -> Iterator[float]:
    """Fills the lists; the share of tiles done, after each."""
    starts = range(0, len(embeddings), TILE_ROWS)
    tiles = [(top, side) for number, top in enumerate(starts) for side in starts[number:]]
    for done, (top, side) in enumerate(tiles):
        products = embeddings[top : top + TILE_ROWS] @ embeddings[side : side + TILE_ROWS].T
        bounds = [
            np.linspace(0, length, NUM_THREADS + 1).astype(np.int64) for length in products.shape
        ]
        # In each turn no two threads have rows or columns in common. A diagonal tile holds each pair twice.
        for turn in range(NUM_THREADS):
            parts = [(own, (own + turn) % NUM_THREADS) for own in range(NUM_THREADS)]
            areas = [(*bounds[0][a : a + 2], *bounds[1][b : b + 2]) for a, b in parts]
            list(pool.map(lambda area: _scan(products, area, top, side, near, far), areas))  # noqa: B023 (ends before the next)
        yield (done + 1) / len(tiles)


@compiled
def _scan(
    products: np.ndarray,
    area: tuple[int, int, int, int],
    top: int,
    side: int,
    near: Shortlists,
    far: Shortlists,
) -> None:
    """Adds what an area (rows from, to, columns from, to) holds to the lists of its rows and, off the diagonal, its columns."""
    columns = slice(side + area[2], side + area[3])
    near_limits, far_limits = near.limits[columns], far.limits[columns]
    found = np.empty(len(near_limits) // SCANNED_AT_ONCE + 1, np.int64)
    for i in range(area[0], area[1]):
        row, line = top + i, products[i, area[2] : area[3]]
        for start in found[
            : _find_runs(line, near.limits[row], far.limits[row], near_limits, far_limits, found)
        ]:
            for j in range(start, min(start + SCANNED_AT_ONCE, len(line))):
                p, column = line[j], columns.start + j
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
    near: float,
    far: float,
    near_limits: np.ndarray,
    far_limits: np.ndarray,
    found: np.ndarray,
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
