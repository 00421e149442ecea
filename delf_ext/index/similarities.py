"""Exact cosine similarities: a function of the two vectors alone.

A BLAS sums a product in an order that depends on the tile it works on, so two identical gallery images can get products that
differ in the last bit, and their order then depends on block sizes, threads and machine. Here components are rounded to
multiples of 2^-26 first (an error below 1e-8 each; a float32 similarity cannot show it). For unit vectors every product and
every partial sum is then an integer below 2^53 in units of 2^-52: float64 holds it exactly, whatever the order of summation.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numba
import numpy as np

from delf_ext.compiled import compiled

UNITS_PER_ONE = 2.0**26
ROWS_PER_PRODUCT = 2**11
CHUNK_ROWS, PAIRS_PER_CHUNK = (
    256,
    2,
)  # half a megabyte at D = 512; of a left row, from which a chunk pays
NUM_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]

# Sums of whole numbers below 2^53 are exact in any order, so these may be vectorised.
compiled_for_whole_numbers = partial(compiled, fastmath={"reassoc", "contract"})


def product_error(num_dims: int) -> float:
    """Largest |float32 product - similarity| for lengths to 1.001, in whatever order a BLAS sums (Higham 2002, section 3.1).

    Summing, rounding to 2^-26, and rounding what is compared to float32.
    """
    return 1.01 * (
        num_dims * 2.0**-24 / (1 - num_dims * 2.0**-24) + num_dims**0.5 * 2.0**-26 + 2.0**-22
    )


def all_similarities(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Exact cosine similarities [Q, G] float32 of query [Q, D] and gallery [G, D], each rounded once from the exact sum."""
    units, result = _in_units(query), np.empty((len(query), len(gallery)), np.float32)
    for start in range(0, len(gallery), ROWS_PER_PRODUCT):
        rows = slice(start, start + ROWS_PER_PRODUCT)
        exact = units @ _in_units(gallery[rows]).T
        np.multiply(exact, UNITS_PER_ONE**-2, out=result[:, rows], casting="same_kind")
    return result


def pair_similarities(
    left: np.ndarray, right: np.ndarray, left_rows: np.ndarray, right_rows: np.ndarray
) -> np.ndarray:
    """Exact cosine similarities [P] float32 of the pairs left[left_rows[p]], right[right_rows[p]], bit by bit as above.

    left [A, D], right [B, D] float32 of unit length; left_rows, right_rows [P] int, fastest where equal left rows are together.
    Where each left row has many pairs they are taken by chunks of `right`, so that it is read from memory once for all: 2.7 times
    faster at 60,000 x 512.
    """
    left, right = left.view(), right.view()
    for values in (left, right):
        values.setflags(write=False)  # another type would be compiled anew
    left_rows, right_rows = (
        left_rows.astype(np.int32, copy=False),
        right_rows.astype(np.int32, copy=False),
    )
    chunk_rows = max(CHUNK_ROWS, len(right) >> 15)
    many = len(left_rows) >= PAIRS_PER_CHUNK * (1 + len(right) // chunk_rows) * np.count_nonzero(
        np.diff(left_rows, prepend=-1)
    )
    # 16 bits are sorted by counting
    order = (
        np.argsort((right_rows // chunk_rows).astype(np.uint16), kind="stable")
        if many
        else slice(None)
    )
    left_rows, right_rows = left_rows[order], right_rows[order]
    result, bounds = (
        np.empty(len(left_rows), np.float32),
        np.linspace(0, len(left_rows), NUM_THREADS + 1).astype(np.int64),
    )
    parts = [slice(*part) for part in zip(bounds, bounds[1:])]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(
            pool.map(
                lambda part: _pairs(left, right, left_rows[part], right_rows[part], result[part]),
                parts,
            )
        )
    if many:
        result[order] = result.copy()
    return result


def _in_units(embeddings: np.ndarray) -> np.ndarray:
    """Components as whole numbers of 2^-26, float64."""
    units = embeddings.astype(np.float64)
    units *= UNITS_PER_ONE
    return np.rint(units, out=units)


@compiled_for_whole_numbers
def _pairs(
    left: np.ndarray,
    right: np.ndarray,
    left_rows: np.ndarray,
    right_rows: np.ndarray,
    result: np.ndarray,
) -> None:
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
