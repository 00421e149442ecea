"""Show the figures of the folds of a cross-validation, with their mean and spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from delf_ext.evaluation.comparison import ComparisonRow, Evaluated, compare, interval_text
from delf_ext.evaluation.hits import concatenate

COLUMNS = ("fold", "best epoch", "chosen by", "value", "mAP", "95 %", "R@1", "queries")


@dataclass(frozen=True, eq=False)
class FoldRow:
    """One fold.

    Attributes:
        member: name of the member of the ensemble.
        fold: number of the held-out fold, from 1.
        best_epoch: number of epochs after which the best weights were saved.
        select_by: metric that chose them.
        best: its value for them, without the copies and the reduction of the recipe.
        evaluated: the model with copies and reduction, on the images of the fold.
    """

    member: str
    fold: int
    best_epoch: float
    select_by: str
    best: float
    evaluated: Evaluated

    @property
    def mean_average_precision(self) -> float:
        """Mean average precision on the images of the fold."""
        return compare([self.evaluated], 0)[0].mean_average_precision


def fold_table(rows: Sequence[FoldRow], seed: int) -> str:
    """Format a table: the folds of each member, then their mean, spread and all queries.

    Args:
        rows: the folds, those of one member together.
        seed: of the bootstrap.

    Returns:
        The table, and lines that explain it.
    """
    cells: list[tuple[str, ...]] = []
    for name in dict.fromkeys(row.member for row in rows):
        cells += _of_member(name, [row for row in rows if row.member == name], seed)
    table = tabulate(cells, headers=COLUMNS, tablefmt="plain", disable_numparse=True)
    ruler = "-" * max(map(len, table.splitlines()))
    header, *lines = [line.rstrip() for line in table.splitlines()]
    note = (
        "Each model is measured on the photographs that it held out, searched in its training "
        'photographs. "value" chose the best epoch, on the same photographs.'
    )
    return "\n".join([header, ruler, *lines, ruler, note])


def _of_member(name: str, rows: Sequence[FoldRow], seed: int) -> list[tuple[str, ...]]:
    results = [compare([row.evaluated], seed)[0] for row in rows]
    cells = [
        (f"{name} {row.fold}", f"{row.best_epoch:.1f}", row.select_by, f"{row.best:.4f}")
        + _figures(result)
        for row, result in zip(rows, results, strict=True)
    ]
    columns = [
        np.array([row.best for row in rows]),
        np.array([result.mean_average_precision for result in results]),
        np.array([result.recall_at_1 for result in results]),
    ]
    best, mean_ap, recall = [f"{values.mean():.4f}" for values in columns]
    cells.append((f"{name} mean", "", "", best, mean_ap, "", recall, ""))
    spread = [f"{values.std(ddof=1):.4f}" if len(rows) > 1 else "" for values in columns]
    best, mean_ap, recall = spread
    cells.append((f"{name} spread (sd)", "", "", best, mean_ap, "", recall, ""))
    joined = Evaluated(name, concatenate([row.evaluated.hits for row in rows]))
    together = compare([joined], seed)[0]
    cells.append((f"{name} all queries", "", "", "", *_figures(together)))
    return cells


def _figures(row: ComparisonRow) -> tuple[str, ...]:
    return (
        f"{row.mean_average_precision:.4f}",
        interval_text(row.map_interval),
        f"{row.recall_at_1:.4f}",
        str(row.num_queries),
    )
