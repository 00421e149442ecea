"""Search exactly by cosine similarity, a block of queries at a time.

The result is the same as a stable argsort of all exact similarities (see `similarities`): of equal
float32 scores, the lower gallery row is first. It has the same bits with any block size, BLAS,
number of threads and `top_k`.

If few of many images are wanted, float32 products choose a shortlist whose exact similarities
decide (see `shortlist`). Otherwise all similarities are computed exactly, which takes about three
times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import numpy as np

from data_io.records import GlobalFeatures, Ranking
from delf_ext.index.failed import any_failed, usable, with_failed
from delf_ext.index.shortlist import Shortlists, fill, rank_exactly, tile_rows
from delf_ext.index.similarities import all_similarities

# 16 MB of float32 scores. To select the best of them takes 64 MB.
SCORES_PER_TILE = 2**22
MIN_TILE_ROWS = 2**12
MAX_QUERIES_PER_BLOCK = 2**11
# A shortlist saves time if the gallery has this many images per wanted one, and MIN_GALLERY in all.
GALLERY_PER_SHORTLIST = 16
MIN_GALLERY = 2**11

RowsAndScores = tuple[np.ndarray, np.ndarray]
# The slice of a block of queries, and its rows and scores [b, k].
Block = tuple[slice, np.ndarray, np.ndarray]


def search(query: GlobalFeatures, gallery: GlobalFeatures, top_k: int | None = None) -> Ranking:
    """Rank the gallery images with the highest cosine similarity for each query.

    It needs about 200 MB at D = 2048 and 4 bytes per gallery image, besides features and result.

    Args:
        query: embeddings [Q, D].
        gallery: embeddings [G, D], made by the same model.
        top_k: number of images per query; None ranks the whole gallery.

    Returns:
        Ranking with rows and scores [Q, min(top_k, G)], nearest first. Gallery images whose
        embedding failed come last; a query whose embedding failed has no rows.

    Raises:
        ValueError: there is no query or no gallery image, D differs, the model digests differ, or
            `top_k` is below 1.
    """
    k = checked_top_k(query, gallery.embeddings.shape, gallery.digest, top_k)
    if any_failed(query, gallery):
        return with_failed(_search_usable(query, gallery, k), query, gallery, k)
    return join_blocks(query.ids, gallery.ids, k, _blocks(query, gallery, k))


def _search_usable(query: GlobalFeatures, gallery: GlobalFeatures, k: int) -> Ranking:
    """Search with the usable queries in the usable gallery; either may be empty."""
    query, gallery = usable(query), usable(gallery)
    k = min(k, len(gallery))
    blocks = _blocks(query, gallery, k) if k else ()
    return join_blocks(query.ids, gallery.ids, k, blocks)


def search_blocks(
    query: GlobalFeatures, gallery: GlobalFeatures, top_k: int | None = None
) -> Iterator[Ranking]:
    """Search as `search` does, for rankings that do not fit in memory together.

    Args:
        query: embeddings [Q, D].
        gallery: embeddings [G, D], made by the same model.
        top_k: number of images per query; None ranks the whole gallery.

    Yields:
        The Ranking of each block of queries, in order.

    Raises:
        ValueError: at the first `next()`, for the same reasons as `search`.
    """
    k = checked_top_k(query, gallery.embeddings.shape, gallery.digest, top_k)
    if any_failed(query, gallery):
        for start in range(0, len(query), _queries_per_block(k, len(gallery))):
            part = query.take(slice(start, start + _queries_per_block(k, len(gallery))))
            yield search(part, gallery, k)
        return
    for block, rows, scores in _blocks(query, gallery, k):
        yield _ranking(query.ids[block], gallery.ids, rows, scores)


def join_blocks(
    query_ids: np.ndarray, gallery_ids: np.ndarray, k: int, blocks: Iterable[Block]
) -> Ranking:
    """Collect the results of all blocks of queries.

    Args:
        query_ids: str [Q].
        gallery_ids: str [G].
        k: number of images per query.
        blocks: they cover all queries.

    Returns:
        Ranking with rows and scores [Q, k].
    """
    rows = np.empty((len(query_ids), k), np.int32)
    scores = np.empty((len(query_ids), k), np.float32)
    for block, block_rows, block_scores in blocks:
        rows[block] = block_rows
        scores[block] = block_scores
    return _ranking(query_ids, gallery_ids, rows, scores)


def _ranking(
    query_ids: np.ndarray, gallery_ids: np.ndarray, rows: np.ndarray, scores: np.ndarray
) -> Ranking:
    return Ranking.trusted(
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        rows=rows,
        scores=scores,
        provenance=f"exact cosine, top {rows.shape[1]}",
    )


def checked_top_k(
    query: GlobalFeatures, gallery_shape: tuple[int, ...], gallery_digest: str, top_k: int | None
) -> int:
    """Check the input of a search.

    Args:
        query: embeddings [Q, D].
        gallery_shape: (G, D).
        gallery_digest: digest of the model that made the gallery features.
        top_k: number of images per query; None for the whole gallery.

    Returns:
        Number of images to rank per query, at most G.

    Raises:
        ValueError: for the same reasons as `search`.
    """
    num_gallery, num_dims = gallery_shape
    if not len(query) or not num_gallery:
        raise ValueError(
            "search needs at least one query and one gallery image. "
            f"Received {len(query)} and {num_gallery}."
        )
    if query.embeddings.shape[1] != num_dims:
        raise ValueError(
            "query and gallery embeddings must have the same D. Received shapes "
            f"{query.embeddings.shape} and {gallery_shape}: extract both with one model."
        )
    if query.digest and gallery_digest and query.digest != gallery_digest:
        raise ValueError(
            f"query features have model digest {query.digest}, "
            f"gallery features {gallery_digest}: extract both with one model."
        )
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1. Received {top_k}.")
    return num_gallery if top_k is None else min(top_k, num_gallery)


def _blocks(query: GlobalFeatures, gallery: GlobalFeatures, k: int) -> Iterator[Block]:
    if len(gallery) >= max(k * GALLERY_PER_SHORTLIST, MIN_GALLERY):
        search_block = search_shortlist
        step = shortlists_per_block(k)
    else:
        search_block = search_everything
        step = _queries_per_block(k, len(gallery))
    embeddings = np.ascontiguousarray(gallery.embeddings)
    return search_by_blocks(query, step, partial(search_block, gallery=embeddings, k=k))


def search_by_blocks(
    query: GlobalFeatures, step: int, search_block: Callable[[np.ndarray], RowsAndScores]
) -> Iterator[Block]:
    """Search for some queries at a time.

    Args:
        query: embeddings [Q, D].
        step: number of queries in a block.
        search_block: takes float32 [b, D]; returns rows int32 [b, k] and scores float32 [b, k].

    Yields:
        The slice of each block, and its rows and scores.
    """
    for start in range(0, len(query), step):
        block = slice(start, min(start + step, len(query)))
        yield block, *search_block(np.ascontiguousarray(query.embeddings[block]))


def shortlists_per_block(k: int) -> int:
    """Return for how many queries shortlists of k images fit in memory."""
    return min(max(1, SCORES_PER_TILE // (2 * k)), MAX_QUERIES_PER_BLOCK)


def search_shortlist(query: np.ndarray, gallery: np.ndarray, k: int) -> RowsAndScores:
    """Search by shortlists; fast if k is small compared with G.

    Args:
        query: float32 [Q, D], unit length, contiguous.
        gallery: float32 [G, D], unit length, contiguous.
        k: number of images per query, at most G.

    Returns:
        Rows int32 [Q, k] and scores float32 [Q, k].
    """
    errors = np.zeros(len(gallery), np.float32)
    lists = Shortlists.empty(len(query), query.shape[1], k, errors)
    step = tile_rows(len(query))
    tiles = (gallery[first : first + step] for first in range(0, len(gallery), step))
    return search_tiles(query, gallery, lists, tiles)


def search_tiles(
    query: np.ndarray, gallery: np.ndarray, lists: Shortlists, tiles: Iterable[np.ndarray]
) -> RowsAndScores:
    """Search by shortlists chosen from approximate embeddings of the gallery.

    Queries whose list is crowded are compared with everything.

    Args:
        query: float32 [Q, D], unit length, contiguous.
        gallery: float32 [G, D], unit length.
        lists: empty; their errors bound the errors of the tiles.
        tiles: the approximate embeddings in order, float32 [T, D] each.

    Returns:
        Rows int32 [Q, k] and scores float32 [Q, k], exact.
    """
    fill(lists, query, tiles)
    rows, scores = rank_exactly(query, gallery, lists)
    crowded = lists.crowded()
    rows[crowded], scores[crowded] = search_everything(query[crowded], gallery, lists.k)
    return rows, scores


def search_everything(query: np.ndarray, gallery: np.ndarray, k: int) -> RowsAndScores:
    """Search by computing all similarities exactly, a block of queries at a time.

    Args:
        query: float32 [Q, D], unit length.
        gallery: float32 [G, D], unit length.
        k: number of images per query, at most G.

    Returns:
        Rows int32 [Q, k] and scores float32 [Q, k].
    """
    rows = np.empty((len(query), k), np.int32)
    scores = np.empty((len(query), k), np.float32)
    step = _queries_per_block(k, len(gallery))
    for start in range(0, len(query), step):
        block = slice(start, start + step)
        rows[block], scores[block] = _search_everything_at_once(query[block], gallery, k)
    return rows, scores


def _search_everything_at_once(query: np.ndarray, gallery: np.ndarray, k: int) -> RowsAndScores:
    rows = np.empty((len(query), 0), np.int32)
    scores = np.empty((len(query), 0), np.float32)
    step = _rows_per_tile(k)
    for first in range(0, len(gallery), step):
        tile_scores = all_similarities(query, gallery[first : first + step])
        gallery_rows = np.arange(first, first + tile_scores.shape[1], dtype=np.int32)
        tile_rows_of_queries = np.broadcast_to(gallery_rows, tile_scores.shape)
        candidates = np.concatenate([rows, tile_rows_of_queries], axis=1)
        rows, scores = _select_top_k(candidates, np.concatenate([scores, tile_scores], axis=1), k)
    return rows, scores


def _rows_per_tile(k: int) -> int:
    """Return the gallery rows per tile.

    At least k, so that a kept score is not sorted again too often.
    """
    return max(k, MIN_TILE_ROWS)


def _queries_per_block(k: int, num_gallery: int) -> int:
    scores_per_query = min(_rows_per_tile(k) + k, num_gallery)
    return min(max(1, SCORES_PER_TILE // scores_per_query), MAX_QUERIES_PER_BLOCK)


def _select_top_k(rows: np.ndarray, scores: np.ndarray, k: int) -> RowsAndScores:
    """Return the k highest scores of each line and their rows, ties by column."""
    if scores.shape[1] > k:
        place = scores.shape[1] - k
        kth_score = np.partition(scores, place, axis=1)[:, place : place + 1]
        is_above = scores > kth_score
        is_tied = scores == kth_score
        num_free = k - is_above.sum(axis=1, keepdims=True)
        is_first_tied = np.cumsum(is_tied, axis=1, dtype=np.int32) <= num_free
        is_chosen = is_above | (is_tied & is_first_tied)
        rows = rows[is_chosen].reshape(-1, k)
        scores = scores[is_chosen].reshape(-1, k)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
