"""Write the answer of the challenge: all gallery images for each query, best first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import write_json, write_text
from data_io.messages import shown_path
from data_io.names import escaped_values
from data_io.progress import say
from delf_ext.app.answers import Answer, answers
from delf_ext.app.reranking import Reranker, finish_in_time
from delf_ext.pipeline import Retrieval
from delf_ext.verbs.data import load
from delf_ext.verbs.models import batch_size_of, open_with
from delf_ext.verbs.printing import show_mostly_skipped
from delf_ext.verbs.requests import request_of


def run(flags: Any) -> None:
    """Write the plain answer to --out, then replace it by the re-ranked one.

    Raises:
        UsageError: naming the flag that does not fit.
        ValueError: if the data have no queries or no gallery.
    """
    request = request_of(flags)
    data, model = open_with(load, flags)
    if not len(data.query) or not len(data.gallery):
        raise ValueError(
            f"{data.name}: infer needs query and gallery images; this data set has none."
        )
    request = request.of(model)
    out = Path(flags.out) if flags.out else Path(flags.run_dir or ".") / "answer.json"
    reranker = Reranker(request, data.gallery, out.parent / "local", say)
    embedded: list[Retrieval] = []
    successive_answers = answers(
        model,
        data.query,
        data.gallery,
        batch_size_of(flags),
        request,
        reranker,
        say,
        embedded.append,
    )
    answer = next(successive_answers)
    _write(out, answer)

    def improve() -> None:
        for better_answer in successive_answers:
            _write(out, better_answer)

    finish_in_time(improve, request.deadline, out, say)
    num_listed = len(answer[0][1][1])
    say(
        f"{shown_path(out)}: {len(answer)} queries, each with {num_listed} of {len(data.gallery)} "
        f"references; as a Python object: {shown_path(out.with_suffix('.txt'))}"
    )
    for retrieval in embedded:
        show_mostly_skipped(retrieval)


def _write(path: Path, answer: Answer) -> None:
    write_json(path, answer)
    write_text(path.with_suffix(".txt"), f"{escaped_values(answer)!r}\n")
