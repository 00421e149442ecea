"""infer: the challenge's answer, every reference for every query, nearest first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_io.artifacts import write_json, write_text
from data_io.records import ImageList
from delf_ext.verbs.data import load
from delf_ext.verbs.systems import one_system

Answer = list[tuple[int, tuple[str, list[str]]]]


def run(flags: Any) -> None:
    data, (model, _) = load(flags), one_system(flags)
    if not len(data.query) or not len(data.gallery):
        raise ValueError(f"{data.name}: infer needs query and reference images; this data set has none.")
    answer = infer(model, data.query, data.gallery, flags.batch_size)
    out = Path(flags.out or (Path(flags.run_dir) if flags.run_dir else Path(".")) / "answer.json")
    write_json(out, answer)
    write_text(out.with_suffix(".txt"), f"{answer!r}\n")
    print(
        f"{out}: {len(answer)} queries, each with {len(data.gallery)} references; as a Python object: {out.with_suffix('.txt')}"
    )


def infer(model: Any, query: ImageList, gallery: ImageList, batch_size: int) -> Answer:
    """`[(0, ('query_0', ['refer_12', 'refer_3', ...])), (1, ...), ...]`: names without extension, all references, by nearness.

    An unreadable reference comes last; an unreadable query gets the references in their own order. Both are printed.
    Source: the 2018 platform's contract (DESIGN section 7).
    """
    from delf_ext.pipeline import embed, rank

    retrieval = embed(model, query, gallery, batch_size)
    for path, reason in retrieval.skipped:
        print(f"unreadable, placed last: {path}: {reason}")
    ranking = rank(retrieval, top_k=None)
    unranked = gallery.ids[~np.isin(gallery.ids, ranking.gallery_ids)].tolist()
    ranked = {str(name): ranking.gallery_ids[rows].tolist() + unranked for name, rows in zip(ranking.query_ids, ranking.rows)}
    return [(i, (str(name), ranked.get(str(name)) or gallery.ids.tolist())) for i, name in enumerate(query.ids)]
