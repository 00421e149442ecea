"""compare: several models on the same queries, with a paired test and a page of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import write_json
from data_io.progress import say
from delf_ext.app.evaluation import compare, require_two, write_page
from delf_ext.verbs.data import load
from delf_ext.verbs.models import batch_size_of, open_models, sources_of
from delf_ext.verbs.requests import request_of


def run(flags: Any) -> None:
    request = request_of(flags, default="", several=True)
    require_two(len(sources_of(flags)), request.chains or ())
    out = Path(flags.out or "report")
    data, opened = load(flags), open_models(flags)
    name = str(flags.data or data.name)
    models = [model for model, _ in opened]
    found = compare(
        models,
        data,
        request=request,
        folder=out / "local",
        batch_size=batch_size_of(flags),
        seed=flags.seed,
        data_name=name,
        log=say,
    )
    say(f"\n{found}")
    if flags.report:
        page = write_page(out / "index.html", found.measured, data, name, flags.seed)
        say(f"report: {page.absolute()}")
    if flags.json:
        write_json(flags.json, found.figures)
        say(f"figures: {flags.json}")
