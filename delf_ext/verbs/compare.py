"""compare: several systems on the same queries, with a paired test and a page of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import write_json
from data_io.datasets import DataSet
from delf_ext.config import UsageError
from delf_ext.evaluation.comparison import compare, format_table
from delf_ext.verbs.data import load
from delf_ext.verbs.evaluate import figures, measure, write_page
from delf_ext.verbs.systems import System, systems_of


def run(flags: Any) -> None:
    data, systems = load(flags), systems_of(flags)
    if len(systems) < 2:
        raise UsageError("compare needs two systems or more: --runs=RUN,RUN, and --pretrained_model for the trunk as it is.")
    page = Path(flags.out or "report") / "index.html" if flags.report else None
    results = compare_systems(systems, data, str(flags.data or data.name), page, flags.seed, flags.batch_size)
    if flags.json:
        write_json(flags.json, results)
        print(f"figures: {flags.json}")


def compare_systems(
    systems: list[System], data: DataSet, data_name: str, page: Path | None, seed: int, batch_size: int
) -> list[dict[str, Any]]:
    """Measures each system, prints one table, writes the page; returns the figures of each.

    All are scored on the queries and gallery of the first system that has a dev split of its own, if the data name none.
    """
    config = next((config for _, config in systems if config is not None), None)
    measured = [measure((model, config), data, batch_size) for model, _ in systems]
    print()
    print(format_table(compare([one.evaluated for one in measured], seed)))
    if page is not None:
        print(f"report: {write_page(page, measured, data, data_name, seed).absolute()}")
    return [figures(one, data_name, seed) for one in measured]
