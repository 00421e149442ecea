"""Exact cosine search in blocks: the oracle that every other index is measured against.

Ties. A BLAS sums a product in an order that depends on the tile it works on, so two identical gallery images can get
scores that differ in the last bit, and their order then depends on block sizes, threads and machine. Here components are
rounded to multiples of 2^-26 first (an error below 1e-8 each; a float32 score cannot show it). For unit vectors every
product and every partial sum is then an integer below 2^53 in units of 2^-52: float64 holds it exactly, whatever the order
of summation. So the result is a function of the vectors alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_io.records import GlobalFeatures, Ranking

UNITS_PER_ONE = 2.0**26
SCORES_PER_TILE = 2**22  # 16 MB of float32 scores, 64 MB with what selecting the best of them needs
GALLERY_ROWS_PER_PRODUCT = 2**11
MAX_QUERIES_PER_BLOCK = 2**11

Block = tuple[slice, np.ndarray, np.ndarray]


def search(
    query: GlobalFeatures, gallery: GlobalFeatures, top_k: int | None = None, queries_per_block: int | None = None
) -> Ranking:
    """For each query the `top_k` gallery images of highest cosine similarity, nearest first.

    Returns: Ranking, rows and scores [Q, min(top_k, G)]; `top_k=None` ranks the whole gallery.
    Guarantee: equal to the stable full argsort of -scores: images whose float32 scores are equal, exact duplicates among
    them, stand in the order of the gallery; the same whatever the block size, BLAS, thread count or `top_k`.
    Memory: beside features and result about 150 MB at D = 2048, and while the Ranking checks itself as much as the result
    again; no Q x G matrix unless it is the result asked for. `queries_per_block` overrides the size that keeps this bound.
    Raises: ValueError on no query, no gallery image, different D, or features made by different configurations.
    """
    k = _checked_top_k(query, gallery, top_k)
    rows = np.empty((len(query), k), np.int32)
    scores = np.empty((len(query), k), np.float32)
    for block, block_rows, block_scores in _blocks(query, gallery, k, queries_per_block):
        rows[block], scores[block] = block_rows, block_scores
    rows.setflags(write=False)  # a record copies only what could still be written
    scores.setflags(write=False)
    return Ranking(query.ids, gallery.ids, rows, scores, provenance=_provenance(k))


def search_blocks(
    query: GlobalFeatures, gallery: GlobalFeatures, top_k: int | None = None, queries_per_block: int | None = None
) -> Iterator[Ranking]:
    """As `search`, one Ranking per block of queries: for a full ranking that does not fit in memory."""
    k = _checked_top_k(query, gallery, top_k)
    for block, rows, scores in _blocks(query, gallery, k, queries_per_block):
        yield Ranking(query.ids[block], gallery.ids, rows, scores, provenance=_provenance(k))


def _provenance(k: int) -> str:
    return f"exact cosine, top {k}"


def _checked_top_k(query: GlobalFeatures, gallery: GlobalFeatures, top_k: int | None) -> int:
    if not len(query) or not len(gallery):
        raise ValueError(f"search needs at least one query and one gallery image. Received {len(query)} and {len(gallery)}.")
    if query.embeddings.shape[1] != gallery.embeddings.shape[1]:
        raise ValueError(
            "query and gallery embeddings must have the same D. "
            f"Received shapes {query.embeddings.shape} and {gallery.embeddings.shape}: extract both with one model."
        )
    if query.digest and gallery.digest and query.digest != gallery.digest:
        raise ValueError(
            f"query features were made by config {query.digest}, gallery features by {gallery.digest}: "
            "extract both with one model."
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1. Received {top_k}.")
    return len(gallery) if top_k is None else min(top_k, len(gallery))


def _blocks(query: GlobalFeatures, gallery: GlobalFeatures, k: int, queries_per_block: int | None) -> Iterator[Block]:
    """(slice of queries, rows [b, k], scores [b, k]). Tiles are at least k wide, so that few selections see each score."""
    if queries_per_block is not None and queries_per_block < 1:
        raise ValueError(f"queries_per_block must be at least 1. Received {queries_per_block}.")
    tile_rows = max(k, 2 * GALLERY_ROWS_PER_PRODUCT)
    fitting = SCORES_PER_TILE // min(tile_rows + k, len(gallery))
    step = queries_per_block or min(max(1, fitting), MAX_QUERIES_PER_BLOCK)
    for start in range(0, len(query), step):
        block = slice(start, min(start + step, len(query)))
        units = _in_units(query.embeddings[block])
        rows = np.empty((len(units), 0), np.int32)
        scores = np.empty((len(units), 0), np.float32)
        for first in range(0, len(gallery), tile_rows):
            tile = _similarities(units, gallery.embeddings[first : first + tile_rows])
            tile_row = np.arange(first, first + tile.shape[1], dtype=np.int32)
            candidates = np.concatenate([rows, np.broadcast_to(tile_row, tile.shape)], axis=1)
            rows, scores = _best(candidates, np.concatenate([scores, tile], axis=1), k)
        yield block, rows, scores


def _in_units(embeddings: np.ndarray) -> np.ndarray:
    """Components as whole numbers of 2^-26, float64."""
    units = embeddings.astype(np.float64)
    units *= UNITS_PER_ONE
    return np.rint(units, out=units)


def _similarities(query_units: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Cosines [b, t] float32, each rounded once from the exact sum."""
    result = np.empty((len(query_units), len(embeddings)), np.float32)
    for start in range(0, len(embeddings), GALLERY_ROWS_PER_PRODUCT):
        rows = slice(start, start + GALLERY_ROWS_PER_PRODUCT)
        exact = query_units @ _in_units(embeddings[rows]).T
        np.multiply(exact, UNITS_PER_ONE**-2, out=result[:, rows], casting="same_kind")
    return result


def _best(rows: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k highest of each line, ties by column: columns come in the order in which equal scores have to stand."""
    if scores.shape[1] > k:
        place = scores.shape[1] - k
        kth = np.partition(scores, place, axis=1)[:, place : place + 1]
        above, tied = scores > kth, scores == kth
        room = k - above.sum(axis=1, keepdims=True)
        chosen = above | (tied & (np.cumsum(tied, axis=1, dtype=np.int32) <= room))
        rows, scores = rows[chosen].reshape(-1, k), scores[chosen].reshape(-1, k)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
