"""infer: the challenge's answer, every reference for every query, nearest first."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from data_io.artifacts import write_json, write_text
from data_io.progress import say
from delf_ext.app.answers import answers
from delf_ext.app.reranking import Reranker, ended_by
from delf_ext.verbs.data import load
from delf_ext.verbs.models import batch_size_of, open_one, require_one
from delf_ext.verbs.requests import request_of


def run(flags: Any) -> None:
    request = request_of(flags)
    require_one(flags)
    data, (model, _) = load(flags), open_one(flags)
    if not len(data.query) or not len(data.gallery):
        raise ValueError(
            f"{data.name}: infer needs query and reference images; this data set has none."
        )
    request = request.of(model)
    out = Path(flags.out or (Path(flags.run_dir) if flags.run_dir else Path(".")) / "answer.json")
    reranker = Reranker(request, data.gallery, out.parent / "local", say)
    with ExitStack() as stack:
        found = answers(
            model, data.query, data.gallery, batch_size_of(flags), request, reranker, say
        )
        for number, answer in enumerate(found):
            write_json(out, answer)
            write_text(out.with_suffix(".txt"), f"{answer!r}\n")
            if not number:
                stack.enter_context(ended_by(request.deadline, out, say))
    say(
        f"{out}: {len(answer)} queries, each with {len(answer[0][1][1])} of {len(data.gallery)} references; "
        f"as a Python object: {out.with_suffix('.txt')}"
    )
