"""Compare models or re-ranking methods on the same queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.messages import shown_path
from data_io.progress import say
from delf_ext.app.comparison import compare, require_two
from delf_ext.app.results import write_page
from delf_ext.verbs.data import load, name_of
from delf_ext.verbs.models import batch_size_of, open_models, sources_of
from delf_ext.verbs.printing import show_mostly_skipped, write_figures
from delf_ext.verbs.requests import request_of


def run(flags: Any) -> None:
    """Print a table with a paired test; write a page with pictures and, with --json, the figures.

    Raises:
        UsageError: if the flags name fewer than two systems.
    """
    request = request_of(flags, default="", several=True)
    require_two(len(sources_of(flags, several=True)), request.chains or ())
    out = Path(flags.out or "report")
    data = load(flags)
    data_name = name_of(data, flags)
    comparison = compare(
        open_models(flags),
        data,
        request=request,
        folder=out / "local",
        batch_size=batch_size_of(flags),
        seed=flags.seed,
        duplicates=flags.duplicates,
        allow_trained_photographs=flags.allow_trained_photographs,
        data_name=data_name,
        log=say,
    )
    say(f"\n{comparison}")
    if flags.report:
        page = write_page(out / "index.html", comparison.measured, data, data_name, flags.seed)
        say(f"report: {shown_path(page)}")
    if flags.json:
        write_figures(flags.json, comparison.figures)
    show_mostly_skipped(comparison.measured[0].retrieval)
