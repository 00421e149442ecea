"""evaluate: the figures of one model on labelled queries, as a table on the screen and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import write_json
from data_io.progress import say
from delf_ext.app.evaluation import evaluate, keep_in_run
from delf_ext.app.reranking import name_of, require_folder
from delf_ext.verbs.data import load
from delf_ext.verbs.models import batch_size_of, open_one, require_one
from delf_ext.verbs.printing import show_figures
from delf_ext.verbs.requests import request_of


def run(flags: Any) -> None:
    request = request_of(flags)
    require_one(flags)
    place = flags.out or flags.run_dir
    folder = Path(place) / "local" if place else None
    require_folder(request, folder)
    data, (model, run) = load(flags), open_one(flags)
    request = request.of(model)
    name = str(flags.data or data.name)
    found = evaluate(
        model,
        data,
        request=request,
        folder=folder,
        batch_size=batch_size_of(flags),
        seed=flags.seed,
        data_name=name,
        log=say,
    )
    show_figures(found.figures)
    if flags.json:
        write_json(flags.json, found.figures)
        say(f"figures: {flags.json}")
    if run is not None:
        report = flags.report and not request.deadline.is_limited
        method = ", ".join(filter(None, [name_of(request.chain), " ".join(flags.query_copies)]))
        written = keep_in_run(run, found.final, found.figures, data, method, report)
        say(f"figures: {written[0]}" + (f"; report: {written[-1]}" if report else ""))
