"""compare: several models on the same queries, with a paired test and a page of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import write_json
from delf_ext.app.evaluation import compare, validation_of, write_page
from delf_ext.app.reranking import require_folder
from delf_ext.config import UsageError
from delf_ext.verbs.data import load
from delf_ext.verbs.models import batch_size_of, open_models, sources_of
from delf_ext.verbs.printing import say
from delf_ext.verbs.requests import request_of


def run(flags: Any) -> None:
    request = request_of(flags, default="", several=True)
    chains = [chain for chain in request.chains or () if chain]
    if len(sources_of(flags)) + len(chains) < 2:
        raise UsageError(
            "compare needs two systems or more: --runs=RUN,RUN, --pretrained_model for the trunk as it is; or one and a --method."
        )
    out = Path(flags.out or "report")
    require_folder(request, out / "local")
    data, opened = load(flags), open_models(flags)
    name = str(flags.data or data.name)
    split = next((run for _, run in opened if validation_of(run)[0] is not None), None)
    models = [model for model, _ in opened]
    found = compare(
        models,
        data,
        run=split,
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
