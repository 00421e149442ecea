"""The challenge's answer: every reference for every query, nearest first."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_io.progress import Log, quiet
from data_io.records import ImageList, Ranking
from delf_ext.app.reranking import (
    Request,
    Reranker,
    first_skipped,
    for_embedding,
    ranking_notes,
    reserve,
)
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.pipeline import NO_COPIES, embed, num_ranked, rank

Answer = list[tuple[int, tuple[str, list[str]]]]


def answers(
    model: AnyEmbedder,
    query: ImageList,
    gallery: ImageList,
    batch_size: int,
    request: Request,
    reranker: Reranker,
    log: Log = quiet,
) -> Iterator[Answer]:
    """Yield `[(0, ('query_0', ['refer_12', 'refer_3', ...])), (1, ...), ...]`: names without extension, by nearness.

    The plain answer comes first; with a chain a better one after it, in time to do once more what the caller did with
    the first. All references are in it, the first 1,000 of each query where that is too much for memory (there the
    official code cut too). An unreadable reference comes last; an unreadable query gets the references in their own
    order. Both are logged. So it is with what was not embedded in time.
    Source: the 2018 platform's contract.
    """
    request = request.of(model)
    deadline, chain = request.deadline, request.chain
    try:
        retrieval = embed(
            model,
            query,
            gallery,
            batch_size,
            request.test_time or NO_COPIES,
            for_embedding(deadline),
        )
    except TimeoutError as error:
        log(f"references stand in their own order: {error}")
        yield in_gallery_order(query, gallery)
        return
    for line in first_skipped(retrieval.skipped, "placed last"):
        log(line)
    ranking, begun_s = rank(retrieval, num_ranked(retrieval)), deadline.clock()
    yield _answer(query, gallery, ranking)
    if chain:
        ranking, _ = reranker(retrieval, ranking, chain, reserve(deadline, begun_s, times=1))
        for line in ranking_notes(ranking, deadline):
            log(line)
        yield _answer(query, gallery, ranking)


def in_gallery_order(query: ImageList, gallery: ImageList) -> Answer:
    """Return the answer without any embedding."""
    return [(i, (str(name), gallery.ids.tolist())) for i, name in enumerate(query.ids)]


def _answer(query: ImageList, gallery: ImageList, ranking: Ranking) -> Answer:
    whole = ranking.rows.shape[1] == len(ranking.gallery_ids)
    last = gallery.ids[~np.isin(gallery.ids, ranking.gallery_ids)].tolist() if whole else []
    unranked = gallery.ids.tolist() if whole else gallery.ids[: ranking.rows.shape[1]].tolist()
    ranked = {
        str(name): ranking.gallery_ids[rows].tolist() + last
        for name, rows in zip(ranking.query_ids, ranking.rows)
    }
    return [(i, (str(name), ranked.get(str(name), unranked))) for i, name in enumerate(query.ids)]
