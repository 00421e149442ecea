"""Measure one model on labelled queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.progress import say
from delf_ext.app.evaluation import evaluate
from delf_ext.app.reranking import chain_name, require_folder
from delf_ext.runs.run_directory import read_run
from delf_ext.verbs.data import load, name_of
from delf_ext.verbs.models import batch_size_of, open_with
from delf_ext.verbs.printing import keep_in_run, show_figures, show_mostly_skipped, write_figures
from delf_ext.verbs.requests import copies_note, request_of


def run(flags: Any) -> None:
    """Print the figures of a model, write them to --json, and keep them in its run directory.

    The report page takes time, so it is not written under a time budget.
    """
    request = request_of(flags)
    parent = flags.out or flags.run_dir
    folder = Path(parent) / "local" if parent else None
    require_folder(request, folder)
    data, model = open_with(load, flags)
    request = request.of(model)
    evaluation = evaluate(
        model,
        data,
        request=request,
        folder=folder,
        batch_size=batch_size_of(flags),
        seed=flags.seed,
        duplicates=flags.duplicates,
        allow_trained_photographs=flags.allow_trained_photographs,
        data_name=name_of(data, flags),
        log=say,
    )
    show_figures(evaluation.figures)
    if flags.json:
        write_figures(flags.json, evaluation.figures)
    if flags.run_dir:
        counted = "copies counted" if flags.duplicates == "count" else ""
        parts = [chain_name(request.chain), copies_note(flags), counted]
        method = ", ".join(filter(None, parts))
        page = flags.report and not request.deadline.is_limited
        keep_in_run(read_run(flags.run_dir), evaluation, data, method, page)
    show_mostly_skipped(evaluation.plain.retrieval)
