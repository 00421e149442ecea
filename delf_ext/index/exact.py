"""Exact cosine search in blocks: the oracle that every other index is measured against.

Few of many: float32 products choose a shortlist, whose exact similarities order it. Otherwise every similarity is computed
exactly, at about three times the cost. Both give the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from data_io.records import GlobalFeatures, Ranking
from delf_ext.index.shortlist import Shortlists, best, fill, tile_rows
from delf_ext.index.similarities import all_similarities

SCORES_PER_TILE = 2**22  # 16 MB of float32 scores, 64 MB with what selecting the best of them needs
MIN_TILE_ROWS = 2**12
MAX_QUERIES_PER_BLOCK = 2**11
GALLERY_PER_SHORTLIST, MIN_GALLERY = (
    16,
    2**11,
)  # images per one wanted, and in all, from which on a shortlist saves time

Block = tuple[slice, np.ndarray, np.ndarray]


def search(
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    top_k: int | None = None,
    queries_per_block: int | None = None,
) -> Ranking:
    """For each query the `top_k` gallery images of highest cosine similarity, nearest first.

    Returns: Ranking, rows and scores [Q, min(top_k, G)]; `top_k=None` ranks the whole gallery.
    Guarantee: equal to the stable full argsort of -scores: images whose float32 scores are equal, exact duplicates among
    them, stand in the order of the gallery; the same whatever the block size, BLAS, thread count or `top_k`.
    Memory: beside features and result about 200 MB at D = 2048 and 4 bytes per gallery image; no Q x G
    matrix unless it is the result asked for. `queries_per_block` overrides the size that keeps this bound.
    Raises: ValueError on no query, no gallery image, different D, or features made by different configurations.
    """
    k = checked_top_k(query, gallery.embeddings.shape, gallery.digest, top_k)
    rows = np.empty((len(query), k), np.int32)
    scores = np.empty((len(query), k), np.float32)
    for block, block_rows, block_scores in _blocks(query, gallery, k, queries_per_block):
        rows[block], scores[block] = block_rows, block_scores
    return _ranking(query.ids, gallery.ids, rows, scores)


def search_blocks(
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    top_k: int | None = None,
    queries_per_block: int | None = None,
) -> Iterator[Ranking]:
    """As `search`, one Ranking per block of queries: for a full ranking that does not fit in memory."""
    k = checked_top_k(query, gallery.embeddings.shape, gallery.digest, top_k)
    for block, rows, scores in _blocks(query, gallery, k, queries_per_block):
        yield _ranking(query.ids[block], gallery.ids, rows, scores)


def _ranking(
    query_ids: np.ndarray, gallery_ids: np.ndarray, rows: np.ndarray, scores: np.ndarray
) -> Ranking:
    return Ranking.trusted(
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        rows=rows,
        scores=scores,
        provenance=provenance_of(rows.shape[1]),
    )


def provenance_of(k: int) -> str:
    return f"exact cosine, top {k}"


def checked_top_k(
    query: GlobalFeatures, gallery_shape: tuple[int, ...], gallery_digest: str, top_k: int | None
) -> int:
    """How many of the gallery [G, D] to give. Raises: ValueError where `search` does."""
    num_gallery, num_dims = gallery_shape
    if not len(query) or not num_gallery:
        raise ValueError(
            f"search needs at least one query and one gallery image. Received {len(query)} and {num_gallery}."
        )
    if query.embeddings.shape[1] != num_dims:
        raise ValueError(
            "query and gallery embeddings must have the same D. "
            f"Received shapes {query.embeddings.shape} and {gallery_shape}: extract both with one model."
        )
    if query.digest and gallery_digest and query.digest != gallery_digest:
        raise ValueError(
            f"query features were made by config {query.digest}, gallery features by {gallery_digest}: "
            "extract both with one model."
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1. Received {top_k}.")
    return num_gallery if top_k is None else min(top_k, num_gallery)


def _blocks(
    query: GlobalFeatures, gallery: GlobalFeatures, k: int, queries_per_block: int | None
) -> Iterator[Block]:
    """(slice of queries, rows [b, k], scores [b, k])."""
    if queries_per_block is not None and queries_per_block < 1:
        raise ValueError(f"queries_per_block must be at least 1. Received {queries_per_block}.")
    few = len(gallery) >= max(k * GALLERY_PER_SHORTLIST, MIN_GALLERY)
    way = search_shortlist if few else search_everything
    step = queries_per_block or (
        shortlists_at_once(k) if few else _queries_at_once(k, len(gallery))
    )
    embeddings = np.ascontiguousarray(gallery.embeddings)
    for start in range(0, len(query), step):
        block = slice(start, min(start + step, len(query)))
        yield block, *way(np.ascontiguousarray(query.embeddings[block]), embeddings, k)


def shortlists_at_once(k: int) -> int:
    return min(max(1, SCORES_PER_TILE // (2 * k)), MAX_QUERIES_PER_BLOCK)


def search_shortlist(
    query: np.ndarray, gallery: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores [Q, k] as of `search` for query [Q, D] and gallery [G, D]; fast where k is small against G."""
    lists = Shortlists.empty(
        len(query), query.shape[1], k, errors=np.zeros(len(gallery), np.float32)
    )
    step = tile_rows(len(query))
    return ranked(
        query,
        gallery,
        lists,
        (gallery[first : first + step] for first in range(0, len(gallery), step)),
    )


def ranked(
    query: np.ndarray, gallery: np.ndarray, lists: Shortlists, tiles: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores [Q, k] by empty lists and tiles of what is as near to the gallery's rows as the lists' errors say.

    Where more than a list holds cannot be told from a query's k-th (copies), everything is compared for this query.
    """
    fill(lists, query, tiles)
    rows, scores = best(query, gallery, lists)
    crowded = lists.crowded()
    rows[crowded], scores[crowded] = search_everything(query[crowded], gallery, lists.k)
    return rows, scores


def search_everything(
    query: np.ndarray, gallery: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same by comparing everything exactly, a block of queries at a time."""
    rows, scores = np.empty((len(query), k), np.int32), np.empty((len(query), k), np.float32)
    step = _queries_at_once(k, len(gallery))
    for start in range(0, len(query), step):
        block = slice(start, start + step)
        rows[block], scores[block] = _compared(query[block], gallery, k)
    return rows, scores


def _compared(query: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Tiles are at least k wide, so that few selections see each score."""
    rows, scores = np.empty((len(query), 0), np.int32), np.empty((len(query), 0), np.float32)
    for first in range(0, len(gallery), _tile_rows(k)):
        tile = all_similarities(query, gallery[first : first + _tile_rows(k)])
        tile_row = np.arange(first, first + tile.shape[1], dtype=np.int32)
        candidates = np.concatenate([rows, np.broadcast_to(tile_row, tile.shape)], axis=1)
        rows, scores = _best(candidates, np.concatenate([scores, tile], axis=1), k)
    return rows, scores


def _tile_rows(k: int) -> int:
    return max(k, MIN_TILE_ROWS)


def _queries_at_once(k: int, num_gallery: int) -> int:
    return min(
        max(1, SCORES_PER_TILE // min(_tile_rows(k) + k, num_gallery)), MAX_QUERIES_PER_BLOCK
    )


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
