"""Compare models, or re-ranking methods, on the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet
from data_io.progress import Log, quiet
from delf_ext.app.data import load_named
from delf_ext.app.evaluation import measure, measure_reranked
from delf_ext.app.evaluation_lists import common_lists, require_answers
from delf_ext.app.measured import Measured
from delf_ext.app.reranking import Chain, Request, Reranker
from delf_ext.config import UsageError
from delf_ext.evaluation import comparison
from delf_ext.evaluation.comparison import ComparisonRow
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.features.extraction import BATCH_SIZE
from delf_ext.recipes.part import BatchSize, Seed, coerced


@dataclass(frozen=True, eq=False)
class Comparison:
    """Result of `compare`: for each model, its plain ranking and then each chain.

    Attributes:
        rows: rows of the table; each difference is to the first row.
        figures: figures of each row, as `--json` writes them.
        measured: measurement of each row.
    """

    rows: list[ComparisonRow]
    figures: list[dict[str, Any]]
    measured: list[Measured]

    def __str__(self) -> str:
        """Return the table."""
        return comparison.format_table(self.rows)


def compare(
    models: Sequence[AnyEmbedder],
    data: DataSet | str | Path,
    *,
    request: Request | None = None,
    reranked: Sequence[str] | None = None,
    folder: Path | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    duplicates: str = "exclude",
    allow_trained_photographs: bool = False,
    data_name: str = "",
    log: Log = quiet,
) -> Comparison:
    """Measure models on the same queries, each without re-ranking and with each chain.

    Args:
        models: from `open_model`.
        data: a data set or its path, used as in `evaluate`.
        request: the chains of re-ranking steps.
        reranked: names of the models that the chains are applied to; None = all.
        folder: where geometric steps store local features.
        batch_size: images per call of a model.
        seed: seed of the bootstrap.
        duplicates: what to do with copies of a query in the gallery, as in `evaluate`.
        allow_trained_photographs: as in `evaluate`.
        data_name: name of the data in the figures; "" = its path or own name.
        log: called with each line of the result.

    Returns:
        The table, the figures and the measurements.

    Raises:
        UsageError: if there is only one row to measure, the request does not fit, or a number is
            out of range.
        ValueError: if no query that all models ranked has a relevant image.
    """
    coerced(batch_size, BatchSize, "batch_size")
    coerced(seed, Seed, "seed")
    request = request or Request()
    data, data_name = load_named(data, data_name, log)
    chains = [chain for chain in request.chains or () if chain]
    require_two(len(models), chains)
    query, gallery = common_lists(data, models, log, allow_trained_photographs)
    require_answers(query, gallery, duplicates, data.class_names)
    reranker = Reranker(request, gallery, folder, log)
    measured: list[Measured] = []
    for model in models:
        plain = measure(
            model,
            query,
            gallery,
            batch_size,
            request.test_time,
            duplicates=duplicates,
            class_names=data.class_names,
            log=log,
        )
        for line in (*plain.retrieval.failed_notes(), *plain.trained.notes()):
            log(f"{model.name}: {line}")
        # Otherwise the networks of all models would be in memory together.
        model.release()
        measured.append(plain)
        if reranked is None or model.name in reranked:
            measured += [measure_reranked(plain, reranker, chain) for chain in chains]
    for line in measured[0].duplicates.notes():
        log(line)
    rows = comparison.compare([item.evaluated for item in measured], seed)
    return Comparison(rows, [item.figures(data_name, seed) for item in measured], measured)


def require_two(num_models: int, chains: Sequence[Chain]) -> None:
    """Raise UsageError unless there are two models, or one model and a chain."""
    num_chains = sum(1 for chain in chains if chain)
    if num_models + num_chains < 2:
        raise UsageError(
            "compare needs two models, or one model and a re-ranking method "
            "(--runs=RUN,RUN, --pretrained_model, --method)."
        )
