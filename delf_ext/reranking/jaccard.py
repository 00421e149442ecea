"""Compute the Jaccard distance of encodings, mixed with the original distance.

k-reciprocal re-ranking sorts by it; see `delf_ext.reranking.k_reciprocal`, which also names the
source. Encodings are sparse: the inverted lists of the gallery lead a query only to images that
share an entry with it. What two encodings share is summed in float64 and rounded to DECIMALS.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from delf_ext.compiled import NUM_THREADS, compiled
from delf_ext.index.similarities import pair_similarities

DECIMALS = 9  # of what two encodings share, 0 to 1


def candidate_similarities(query: np.ndarray, gallery: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Compute the exact similarities of queries to their candidates.

    Args:
        query: float32 [b, D], unit length.
        gallery: float32 [G, D], unit length.
        rows: int32 [b, k], gallery rows of the candidates; -1 pads the end.

    Returns:
        float32 [b, k]; values at -1 have no meaning.
    """
    left = np.repeat(np.arange(len(rows), dtype=np.int32), rows.shape[1])
    return pair_similarities(query, gallery, left, np.maximum(rows, 0).ravel()).reshape(rows.shape)


def final_distances(
    own: csr_matrix,
    inverted: csc_matrix,
    rows: np.ndarray,
    similarities: np.ndarray,
    farthest: np.ndarray,
    lambda_: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute (1 - lambda_) * Jaccard distance + lambda_ * original distance, and the order by it.

    Args:
        own: encodings of the queries, [b, N], rows of sum 1.
        inverted: encodings of the gallery by column, [G, N], rows of sum 1.
        rows: int32 [b, k], gallery rows of the candidates; -1 pads the end.
        similarities: float32 [b, k], of queries to candidates.
        farthest: float64 [b], largest squared distance of each query, divides the original ones.
        lambda_: weight of the original distance, 0 to 1.

    Returns:
        Distances float64 [b, k], infinite at -1; order int64 [b, k], ties by gallery row.
    """
    final = np.empty(rows.shape)
    order = np.empty(rows.shape, np.int64)
    lists = (
        own.indices,
        own.data,
        inverted.indptr,
        inverted.indices,
        inverted.data,
        inverted.shape[0],
    )

    def work(part: slice) -> None:
        ends = own.indptr[part.start : part.stop + 1]
        _finish(ends, *lists, rows[part], similarities[part], farthest[part], lambda_, final[part])
        order[part] = _order(final[part], rows[part])

    bounds = np.linspace(0, len(rows), NUM_THREADS + 1).astype(np.int64)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(work, map(slice, bounds, bounds[1:])))
    return final, order


def _order(final: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the order of each line, ties by row; the stable sort is fast on sorted candidates."""
    order = np.argsort(final, axis=1, kind="stable")
    ordered = np.take_along_axis(final, order, axis=1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    order[tied] = np.lexsort((rows[tied], final[tied]))
    return order


@compiled
def _finish(
    own_starts: np.ndarray,
    own_columns: np.ndarray,
    own_values: np.ndarray,
    list_starts: np.ndarray,
    list_rows: np.ndarray,
    list_values: np.ndarray,
    num_gallery: int,
    rows: np.ndarray,
    similarities: np.ndarray,
    farthest: np.ndarray,
    lambda_: float,
    final: np.ndarray,
) -> None:
    """Sum minima through the inverted lists, and write the distances to `final`."""
    sums = np.zeros(num_gallery)
    one = 10.0**DECIMALS
    for i in range(len(rows)):
        for place in range(own_starts[i], own_starts[i + 1]):
            for entry in range(
                list_starts[own_columns[place]], list_starts[own_columns[place] + 1]
            ):
                sums[list_rows[entry]] += min(own_values[place], list_values[entry])
        for j in range(rows.shape[1]):
            shared = np.rint(sums[max(rows[i, j], 0)] * one) / one
            original = (2 - 2 * np.float64(similarities[i, j])) / farthest[i]
            distance = (1 - lambda_) * (1 - shared / (2 - shared)) + lambda_ * original
            final[i, j] = distance if rows[i, j] >= 0 else np.inf
        for place in range(own_starts[i], own_starts[i + 1]):
            for entry in range(
                list_starts[own_columns[place]], list_starts[own_columns[place] + 1]
            ):
                sums[list_rows[entry]] = 0.0
