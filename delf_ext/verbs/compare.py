"""compare: several systems on the same queries, with a paired test and a page of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_io.artifacts import write_json
from data_io.datasets import DataSet
from delf_ext.config import UsageError
from delf_ext.evaluation.comparison import compare, format_table
from delf_ext.verbs.data import load
from delf_ext.verbs.evaluate import announced, figures, improve, measure, write_page
from delf_ext.verbs.methods import Chain, Request, Reranker
from delf_ext.verbs.systems import System, systems_of


def run(flags: Any) -> None:
    request = Request.of(flags, several=True)
    chains = [chain for chain in request.chains if chain]
    data, systems = load(flags), systems_of(flags)
    if len(systems) + len(chains) < 2:
        raise UsageError(
            "compare needs two systems or more: --runs=RUN,RUN, --pretrained_model for the trunk as it is; or one and a --method."
        )
    page = Path(flags.out or "report") / "index.html" if flags.report else None
    reranker = Reranker(flags, request, data.gallery, Path(flags.out or "report") / "local")
    ways = [(chain, reranker) for chain in chains]
    results = compare_systems(systems, data, str(flags.data or data.name), page, flags.seed, flags.batch_size, ways)
    if flags.json:
        write_json(flags.json, results)
        print(f"figures: {flags.json}")


def compare_systems(
    systems: list[System],
    data: DataSet,
    data_name: str,
    page: Path | None,
    seed: int,
    batch_size: int,
    ways: Sequence[tuple[Chain, Reranker]] = (),
) -> list[dict[str, Any]]:
    """Measures each system, as it is and with each chain of re-rankers, prints one table, writes the page; returns the figures.

    All are scored on the queries and gallery of the first system that has a dev split of its own, if the data name none.
    """
    config = next((config for _, config in systems if config is not None), None)
    measured = []
    for model, _ in systems:
        plain = measure(model, *announced(model, data, config), batch_size)
        measured += [plain, *(improve(plain, reranker, chain) for chain, reranker in ways)]
    print()
    print(format_table(compare([one.evaluated for one in measured], seed)))
    if page is not None:
        print(f"report: {write_page(page, measured, data, data_name, seed).absolute()}")
    return [figures(one, data_name, seed) for one in measured]
