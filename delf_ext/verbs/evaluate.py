"""Measure one model on labelled queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import write_json
from data_io.messages import shown_path
from data_io.progress import say
from delf_ext.app.evaluation import evaluate
from delf_ext.app.reranking import chain_name, require_folder
from delf_ext.app.results import write_to_run
from delf_ext.verbs.data import load
from delf_ext.verbs.models import batch_size_of, open_one, require_one
from delf_ext.verbs.printing import show_figures
from delf_ext.verbs.requests import request_of


def run(flags: Any) -> None:
    """Print the figures of a model, write them to --json, and keep them in its run directory.

    The report page takes time, so it is not written under a time budget.
    """
    request = request_of(flags)
    require_one(flags)
    parent = flags.out or flags.run_dir
    folder = Path(parent) / "local" if parent else None
    require_folder(request, folder)
    data = load(flags)
    model, run = open_one(flags)
    request = request.of(model)
    evaluation = evaluate(
        model,
        data,
        request=request,
        folder=folder,
        batch_size=batch_size_of(flags),
        seed=flags.seed,
        data_name=shown_path(flags.data) if flags.data else data.name,
        log=say,
    )
    show_figures(evaluation.figures)
    if flags.json:
        write_json(flags.json, evaluation.figures)
        say(f"figures: {shown_path(flags.json)}")
    if run is not None:
        report = flags.report and not request.deadline.is_limited
        method = ", ".join(filter(None, [chain_name(request.chain), " ".join(flags.query_copies)]))
        written = write_to_run(run, evaluation.final, evaluation.figures, data, method, report)
        say(f"figures: {shown_path(written[0])}")
        if report:
            say(f"report: {shown_path(written[-1])}")
