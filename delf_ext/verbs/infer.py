"""Write the answer of the challenge: all gallery images for each query, best first."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from data_io.files.artifacts import write_json, write_text
from data_io.files.marks import mark_beside
from data_io.files.names import escaped_values
from data_io.files.output_files import is_stream
from data_io.messages import shown_path
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
    reranker = Reranker(request, data.gallery, _folder_beside(out, flags.run_dir), say)
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
    latest = [answer]
    to_stream = is_stream(out)
    if not to_stream:
        _write(out, answer)

    def improve() -> None:
        for better_answer in successive_answers:
            latest[0] = better_answer
            if not to_stream:
                _write(out, better_answer)

    # What is in a stream cannot be replaced: it gets the last answer only.
    at_end = partial(_write_to_stream, out, latest) if to_stream else None
    finish_in_time(improve, request.deadline, out, say, at_end)
    num_listed = len(answer[0][1][1])
    text = "" if to_stream else f"; as a Python object: {shown_path(out.with_suffix('.txt'))}"
    say(
        f"{shown_path(out)}: {len(answer)} queries, each with {num_listed} of {len(data.gallery)} "
        f"references{text}"
    )
    for retrieval in embedded:
        show_mostly_skipped(retrieval)


def _folder_beside(out: Path, run_dir: str | None) -> Path:
    """Return the folder of local features: beside the answer, or if that is a stream in the run."""
    if not is_stream(out):
        return out.parent / "local"
    return Path(run_dir or tempfile.mkdtemp(prefix="mandoo-")) / "local"


def _write_to_stream(path: Path, latest: list[Answer]) -> None:
    write_json(path, latest[0])


def _write(path: Path, answer: Answer) -> None:
    text = path.with_suffix(".txt")
    write_json(path, answer)
    write_text(text, f"{escaped_values(answer)!r}\n")
    mark_beside(path)
    mark_beside(text)
