"""infer: the challenge's answer, every reference for every query, nearest first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from data_io.artifacts import write_json, write_text
from data_io.records import ImageList, Ranking
from delf_ext.verbs.data import load
from delf_ext.verbs.methods import Request, Reranker, ended_by, for_embedding, reserve, tell, tell_skipped
from delf_ext.verbs.systems import one_system

Answer = list[tuple[int, tuple[str, list[str]]]]


def run(flags: Any) -> None:
    request = Request.of(flags)
    data, (model, _) = load(flags), one_system(flags)
    if not len(data.query) or not len(data.gallery):
        raise ValueError(f"{data.name}: infer needs query and reference images; this data set has none.")
    out = Path(flags.out or (Path(flags.run_dir) if flags.run_dir else Path(".")) / "answer.json")
    reranker = Reranker(flags, request, data.gallery, out.parent / "local")
    with ExitStack() as stack:
        found = answers(model, data.query, data.gallery, flags.batch_size, request, reranker)
        for number, answer in enumerate(found):
            write_json(out, answer)
            write_text(out.with_suffix(".txt"), f"{answer!r}\n")
            if not number:
                stack.enter_context(ended_by(request.deadline, out))
    print(
        f"{out}: {len(answer)} queries, each with {len(answer[0][1][1])} of {len(data.gallery)} references; "
        f"as a Python object: {out.with_suffix('.txt')}"
    )


def answers(
    model: Any,
    query: ImageList,
    gallery: ImageList,
    batch_size: int,
    request: Request,
    reranker: Reranker,
) -> Iterator[Answer]:
    """`[(0, ('query_0', ['refer_12', 'refer_3', ...])), (1, ...), ...]`: names without extension, by nearness.

    The plain answer first; with a chain a better one after it, in time to do once more what the caller did with the first.
    All references are in it, the first 1,000 of each query where that is too much for memory (there the official code cut too).
    An unreadable reference comes last; an unreadable query gets the references in their own order. Both are printed. So it is
    with what was not embedded in time.
    Source: the 2018 platform's contract (DESIGN section 7).
    """
    from delf_ext.pipeline import embed, rank, width_in_memory

    deadline, chain = request.deadline, request.chains[0]
    try:
        retrieval = embed(model, query, gallery, batch_size, request.query_copies, for_embedding(deadline))
    except TimeoutError as error:
        print(f"references stand in their own order: {error}")
        yield in_their_own_order(query, gallery)
        return
    tell_skipped(retrieval.skipped, "placed last")
    ranking, begun_s = rank(retrieval, width_in_memory(retrieval)), deadline.clock()
    yield _answer(query, gallery, ranking)
    if chain:
        ranking, _ = reranker(retrieval, ranking, chain, reserve(deadline, begun_s, times=1))
        tell(ranking, deadline)
        yield _answer(query, gallery, ranking)


def in_their_own_order(query: ImageList, gallery: ImageList) -> Answer:
    """What there is to say without any embedding."""
    return [(i, (str(name), gallery.ids.tolist())) for i, name in enumerate(query.ids)]


def _answer(query: ImageList, gallery: ImageList, ranking: Ranking) -> Answer:
    whole = ranking.rows.shape[1] == len(ranking.gallery_ids)
    last = gallery.ids[~np.isin(gallery.ids, ranking.gallery_ids)].tolist() if whole else []
    unranked = gallery.ids.tolist() if whole else gallery.ids[: ranking.rows.shape[1]].tolist()
    ranked = {str(name): ranking.gallery_ids[rows].tolist() + last for name, rows in zip(ranking.query_ids, ranking.rows)}
    return [(i, (str(name), ranked.get(str(name), unranked))) for i, name in enumerate(query.ids)]
