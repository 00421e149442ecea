"""Compute exact cosine similarities, which depend on the two vectors alone.

A BLAS adds the terms of a product in an order that depends on block sizes, threads and machine. So
the products of two identical gallery images may differ in the last bit, and their order may change.

Here the components are first rounded to multiples of 2^-26. That is an error below 1e-8 each, too
small for a float32 similarity to show. For unit vectors, all products and partial sums are then
whole numbers below 2^53, in units of 2^-52. float64 holds these exactly, in any order of summation.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from delf_ext.compiled import NUM_THREADS, compiled

UNITS_PER_ONE = 2.0**26
ROWS_PER_PRODUCT = 2**11
# Half a megabyte at D = 512.
CHUNK_ROWS = 256
# Pairs of a left row with one chunk from which on it saves time to work by chunks.
PAIRS_PER_CHUNK = 2

# Sums of whole numbers below 2^53 are exact in any order, so they may be vectorised.
compiled_for_whole_numbers = partial(compiled, fastmath={"reassoc", "contract"})


def product_error(num_dims: int) -> float:
    """Return a bound on the difference between a float32 product and the exact similarity.

    It holds for lengths up to 1.001 and any order of summation. The three terms are the summation
    (Higham 2002, section 3.1), the rounding to 2^-26, and the rounding of results to float32.
    """
    summation = num_dims * 2.0**-24 / (1 - num_dims * 2.0**-24)
    return 1.01 * (summation + num_dims**0.5 * 2.0**-26 + 2.0**-22)


def all_similarities(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Compute the exact similarities of all queries and gallery images.

    Args:
        query: float32 [Q, D], unit length.
        gallery: float32 [G, D], unit length.

    Returns:
        float32 [Q, G], each rounded once from the exact sum.
    """
    query_units = _in_units(query)
    similarities = np.empty((len(query), len(gallery)), np.float32)
    for start in range(0, len(gallery), ROWS_PER_PRODUCT):
        rows = slice(start, start + ROWS_PER_PRODUCT)
        sums = query_units @ _in_units(gallery[rows]).T
        np.multiply(sums, UNITS_PER_ONE**-2, out=similarities[:, rows], casting="same_kind")
    return similarities


def pair_similarities(
    left: np.ndarray, right: np.ndarray, left_rows: np.ndarray, right_rows: np.ndarray
) -> np.ndarray:
    """Compute the exact similarities of P pairs, with the same bits as `all_similarities`.

    If each left row has many pairs, the pairs are ordered by chunks of `right`, so that each chunk
    is read from memory once. That is 2.7 times as fast at 60,000 x 512.

    Args:
        left: float32 [A, D], unit length.
        right: float32 [B, D], unit length.
        left_rows: int [P] rows of `left`; fastest if equal rows are together.
        right_rows: int [P] rows of `right`.

    Returns:
        float32 [P].
    """
    # Read-only views, because numba would compile the function again for writable arrays.
    left = _readonly_view(left)
    right = _readonly_view(right)
    left_rows = left_rows.astype(np.int32, copy=False)
    right_rows = right_rows.astype(np.int32, copy=False)
    chunk_rows = max(CHUNK_ROWS, len(right) >> 15)
    num_chunks = 1 + len(right) // chunk_rows
    num_left_runs = np.count_nonzero(np.diff(left_rows, prepend=-1))
    order: np.ndarray | slice = slice(None)
    if len(left_rows) >= PAIRS_PER_CHUNK * num_chunks * num_left_runs:
        # NumPy sorts 16-bit numbers by counting them.
        order = np.argsort((right_rows // chunk_rows).astype(np.uint16), kind="stable")
    similarities = np.empty(len(left_rows), np.float32)
    similarities[order] = _pairs_on_threads(left, right, left_rows[order], right_rows[order])
    return similarities


def _readonly_view(values: np.ndarray) -> np.ndarray:
    view = values.view()
    view.setflags(write=False)
    return view


def _pairs_on_threads(
    left: np.ndarray, right: np.ndarray, left_rows: np.ndarray, right_rows: np.ndarray
) -> np.ndarray:
    similarities = np.empty(len(left_rows), np.float32)
    bounds = np.linspace(0, len(left_rows), NUM_THREADS + 1).astype(np.int64)

    def compute(start: int, stop: int) -> None:
        pairs = slice(start, stop)
        _pairs(left, right, left_rows[pairs], right_rows[pairs], similarities[pairs])

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(compute, bounds[:-1], bounds[1:]))
    return similarities


def _in_units(embeddings: np.ndarray) -> np.ndarray:
    """Return the components as whole numbers of 2^-26, float64."""
    units = embeddings.astype(np.float64)
    units *= UNITS_PER_ONE
    return np.rint(units, out=units)


@compiled_for_whole_numbers
def _pairs(
    left: np.ndarray,
    right: np.ndarray,
    left_rows: np.ndarray,
    right_rows: np.ndarray,
    similarities: np.ndarray,
) -> None:
    """Write the exact similarities of the pairs."""
    left_units = np.empty(left.shape[1])
    current_row = -1
    for p in range(len(similarities)):
        if left_rows[p] != current_row:
            current_row = left_rows[p]
            for d in range(len(left_units)):
                left_units[d] = np.rint(np.float64(left[current_row, d]) * UNITS_PER_ONE)
        right_row = right_rows[p]
        total = 0.0
        for d in range(len(left_units)):
            total += left_units[d] * np.rint(np.float64(right[right_row, d]) * UNITS_PER_ONE)
        similarities[p] = total * UNITS_PER_ONE**-2
