"""Compare models on the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet
from data_io.progress import Log, quiet
from delf_ext.app.evaluation import Measured, improve, lists_of, loaded_data, measure
from delf_ext.app.reranking import Chain, Request, Reranker, require_folder
from delf_ext.config import UsageError
from delf_ext.evaluation import comparison
from delf_ext.evaluation.comparison import ComparisonRow
from delf_ext.features.embedder import AnyEmbedder
from delf_ext.features.extraction import BATCH_SIZE


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `compare` returns: one row and one set of figures per model and chain, in order."""

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
    folder: Path | None = None,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    data_name: str = "",
    log: Log = quiet,
) -> Comparison:
    """Measure several models on the same queries, each as it is and with each chain of re-rankers.

    Args:
        models: from `open_model`.
        data: as in `evaluate`.
        request: the chains of re-rankers; () is a model as it is.
        folder: where geometric steps keep local features.
        batch_size: images per call of a model.
        seed: of the bootstrap.
        data_name: as it is written into the figures.
        log: called with each line worth reading.

    Returns:
        The rows of the table, in which every difference is to the first row.

    Raises:
        ValueError: when there is no common query with a relevant image.
    """
    request = request or Request()
    data, data_name = loaded_data(data, data_name)
    chains = [chain for chain in request.chains or () if chain]
    require_two(len(models), chains)
    require_folder(request, folder)
    query, gallery = lists_of(data, models, log)
    reranker = Reranker(request, gallery, folder, log)
    measured: list[Measured] = []
    for model in models:
        plain = measure(model, query, gallery, batch_size, request.test_time, log=log)
        measured += [plain, *(improve(plain, reranker, chain) for chain in chains)]
    rows = comparison.compare([one.evaluated for one in measured], seed)
    return Comparison(rows, [one.figures(data_name, seed) for one in measured], measured)


def require_two(num_models: int, chains: Sequence[Chain]) -> None:
    """Raise UsageError when there is nothing to compare."""
    if num_models + sum(map(bool, chains)) < 2:
        raise UsageError(
            "compare needs two systems or more: --runs=RUN,RUN, --pretrained_model for the trunk as it is; or one and a --method."
        )
