"""infer: the challenge's answer, every reference for every query, nearest first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import write_json, write_text
from data_io.messages import shown_path
from data_io.progress import say
from delf_ext.app.answers import Answer, answers
from delf_ext.app.reranking import Reranker, finish_in_time
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
    better_answers = answers(
        model, data.query, data.gallery, batch_size_of(flags), request, reranker, say
    )
    answer = next(better_answers)
    _write(out, answer)

    def improve() -> None:
        for better in better_answers:
            _write(out, better)

    finish_in_time(improve, request.deadline, out, say)
    say(
        f"{shown_path(out)}: {len(answer)} queries, each with {len(answer[0][1][1])} of {len(data.gallery)} references; "
        f"as a Python object: {shown_path(out.with_suffix('.txt'))}"
    )


def _write(path: Path, answer: Answer) -> None:
    write_json(path, answer)
    write_text(path.with_suffix(".txt"), f"{answer!r}\n")
