"""Answer all queries of the 2018 challenge: every gallery image for every query, nearest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from data_io.messages import skipped_lines
from data_io.progress import Log, quiet
from data_io.records import ImageList, Ranking
from delf_ext.app.reranking import (
    Request,
    Reranker,
    for_embedding,
    ranking_notes,
    reserve,
)
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.pipeline import Retrieval, embed, num_ranked, rank

Answer = list[tuple[int, tuple[str, list[str]]]]
"""[(0, ("query_0", ["refer_12", "refer_3", ...])), (1, ...), ...]. Source: the 2018 platform."""


def answers(
    model: AnyEmbedder,
    query: ImageList,
    gallery: ImageList,
    batch_size: int,
    request: Request,
    reranker: Reranker,
    log: Log = quiet,
    when_embedded: Callable[[Retrieval], None] | None = None,
) -> Iterator[Answer]:
    """Yield the plain answer and then, with a chain, the re-ranked one.

    The second answer leaves time to write it: as long as writing the first one took. An answer
    holds all gallery ids; only the first 1,000 for each query if all are too many for memory.
    Gallery images without an embedding (unreadable, or no time) come last. A query without an
    embedding gets the gallery in its own order.

    Args:
        model: an embedder or an ensemble.
        query: the queries.
        gallery: the gallery.
        batch_size: images per call of the model.
        request: one chain and a deadline.
        reranker: applies the chain.
        log: called with each log line.
        when_embedded: called with the embeddings.

    Yields:
        One or two answers.
    """
    request = request.of(model)
    deadline = request.deadline
    early = for_embedding(deadline)
    try:
        retrieval = embed(model, query, gallery, batch_size, request.test_time, early)
    except TimeoutError as error:
        log(f"the answer is not ranked: {error}")
        yield in_gallery_order(query, gallery)
        return
    if when_embedded:
        when_embedded(retrieval)
    # Without the files that the reader of the data left out: no answer lists those.
    listed = {*query.paths.tolist(), *gallery.paths.tolist()}
    unranked = [entry for entry in retrieval.skipped if entry[0] in listed]
    for line in skipped_lines(unranked, "placed last"):
        log(line)
    for line in skipped_lines([*query.skipped, *gallery.skipped]):
        log(line)
    if retrieval.warning:
        log(retrieval.warning)
    for line in retrieval.failed_notes():
        log(line)
    ranking = rank(retrieval, num_ranked(retrieval))
    started_s = deadline.clock()
    yield _answer(query, gallery, ranking)
    if request.chain:
        reserve_s = reserve(deadline, started_s, times=1)
        ranking, _ = reranker(retrieval, ranking, request.chain, reserve_s)
        for line in ranking_notes(ranking, deadline):
            log(line)
        yield _answer(query, gallery, ranking)


def in_gallery_order(query: ImageList, gallery: ImageList) -> Answer:
    """Return an answer without ranking: for each query, the gallery in its own order."""
    return [(row, (str(name), gallery.ids.tolist())) for row, name in enumerate(query.ids)]


def _answer(query: ImageList, gallery: ImageList, ranking: Ranking) -> Answer:
    """Return the gallery ids of each query; ids that were not ranked come last."""
    num_ranked_ids = ranking.rows.shape[1]
    unranked_query = gallery.ids.tolist()
    last: list[str] = []
    if num_ranked_ids == len(ranking.gallery_ids):
        last = gallery.ids[~np.isin(gallery.ids, ranking.gallery_ids)].tolist()
    else:
        unranked_query = unranked_query[:num_ranked_ids]
    # A query whose embedding failed has no rows.
    ranked = {
        str(name): ranking.gallery_ids[rows].tolist() + last
        for name, rows in zip(ranking.query_ids, ranking.rows)
        if (rows >= 0).all()
    }
    return [
        (row, (str(name), ranked.get(str(name), unranked_query)))
        for row, name in enumerate(query.ids)
    ]
