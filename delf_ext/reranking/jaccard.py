"""What k-reciprocal re-ranking orders by: the Jaccard distance of two encodings, mixed with the original distance.

Encodings are sparse: through the inverted lists of the gallery's, a query meets only images that share an entry with it. What two
encodings share is summed in float64 and rounded to DECIMALS: see `delf_ext.reranking.k_reciprocal`, which also has the source.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.sparse import csc_matrix, csr_matrix

from delf_ext.compiled import compiled
from delf_ext.index.similarities import NUM_THREADS, pair_similarities

DECIMALS = 9  # of what two encodings share, 0 to 1


def candidate_similarities(query: np.ndarray, gallery: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Exact similarities [b, k] float32 of queries [b, D] to their candidates, gallery [G, D] at rows [b, k]; for -1 any."""
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
    """(1 - lambda_) * Jaccard distance + lambda_ * original distance of b queries to their candidates, and the order by it.

    own [b, N] and inverted [G, N]: encodings of queries and gallery, rows of sum 1. rows, similarities [b, k]: the candidates.
    farthest [b]: each query's largest squared distance, which divides the original ones.
    Returns: distances [b, k] float64, infinite for -1; order [b, k], ties by gallery row.
    """
    final, order = np.empty(rows.shape), np.empty(rows.shape, np.int64)
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
    """Of each line, ties by row; few have any. Most candidates come in their order, which this sort makes use of."""
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
    """Sums minima through the inverted lists, and makes final distances of them."""
    sums, one = np.zeros(num_gallery), 10.0**DECIMALS
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
