"""Rank untrained trunks: a table with intervals and paired tests, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from delf_ext.evaluation.comparison import interval_text, p_text
from delf_ext.evaluation.intervals import (
    PairedDifference,
    paired_bootstrap,
    score_interval,
    too_few_note,
)

COLUMNS = (
    *("weights", "px", "pooling", "mAP", "95 %", "R@1", "images/s", "runtime", "GMac", "MB", "dim"),
    *("best - this", "95 %", "p"),
)
LEFT = ("weights", "pooling")
# A difference with a larger p-value may be chance.
CLEAR_P = 0.05
# A network is called faster from this ratio on: timings of one network differ by less.
FASTER = 1.2


@dataclass(frozen=True)
class TrunkRow:
    """Figures of one trunk with one pooling at one size.

    Attributes:
        weights: name of the weights, such as "lite2" or a path.
        trunk: network and end point.
        pooling: such as "avg".
        size_px: side of the input.
        average_precisions: of each query, in the order of the data; None without relevant images.
        recalls_at_1: of each query, 0 or 1; None without relevant images.
        images_per_s: of the embedding alone, warmed up.
        gmac: billions of multiply-accumulates for one image.
        gmac_by_block: the same by end point.
        megabytes: millions of bytes of float32 weights.
        num_parameters: trainable numbers.
        dimension: numbers of an embedding.
        num_gallery: images that are searched in.
        runtime: library that computed the embeddings.
        precision: such as "float32".
        batch_size: images per call.
        num_cores: cores of the machine that measured `images_per_s`.
    """

    weights: str
    trunk: str
    pooling: str
    size_px: int
    average_precisions: tuple[float | None, ...]
    recalls_at_1: tuple[float | None, ...]
    images_per_s: float
    gmac: float
    gmac_by_block: dict[str, float]
    megabytes: float
    num_parameters: int
    dimension: int
    num_gallery: int
    runtime: str
    precision: str
    batch_size: int
    num_cores: int

    @property
    def name(self) -> str:
        """The row in words, such as "lite2, gem, 320 px"."""
        return f"{self.weights}, {self.pooling}, {self.size_px} px"

    @property
    def precisions(self) -> np.ndarray:
        """Average precision of each query, float64 [Q]; NaN without relevant images."""
        return np.array(self.average_precisions, np.float64)

    @property
    def recalls(self) -> np.ndarray:
        """Recall@1 of each query, float64 [Q]; NaN without relevant images."""
        return np.array(self.recalls_at_1, np.float64)

    @property
    def mean_average_precision(self) -> float:
        """Mean over the queries with a relevant image, of the whole ranking."""
        return float(np.nanmean(self.precisions))

    @property
    def recall_at_1(self) -> float:
        """Mean over the queries with a relevant image."""
        return float(np.nanmean(self.recalls))


@dataclass(frozen=True, eq=False)
class TrunkTable:
    """Rows, the best mAP first.

    Attributes:
        rows: at least one, of the same queries.
        differences: mAP of the best row minus that of each row; None for the best itself.
        seed: of the bootstrap.
    """

    rows: tuple[TrunkRow, ...]
    differences: tuple[PairedDifference | None, ...]
    seed: int

    @property
    def best(self) -> TrunkRow:
        """The row with the highest mAP."""
        return self.rows[0]

    @property
    def faster(self) -> TrunkRow | None:
        """The fastest row that is not clearly worse than the best, if clearly faster than it."""
        candidates = [
            row
            for row, gap in zip(self.rows, self.differences)
            if gap is not None
            and gap.p_value >= CLEAR_P
            and row.images_per_s >= FASTER * self.best.images_per_s
        ]
        return max(candidates, key=lambda row: row.images_per_s, default=None)

    def conclusion(self) -> str:
        """Return one line that names the best row and a faster one that may be as good."""
        best = self.best
        line = f"best: {best.name} (mAP {best.mean_average_precision:.4f})"
        faster = self.faster
        if faster is None:
            return f"{line}."
        gap = self.differences[self.rows.index(faster)]
        assert gap is not None
        ratio = faster.images_per_s / best.images_per_s
        return (
            f"{line}; {faster.name} is {ratio:.1f} times as fast and not clearly worse "
            f"({-gap.mean:+.4f}, p = {p_text(gap.p_value)})."
        )

    def __str__(self) -> str:
        """Return the table and notes."""
        table = tabulate(
            [_cells(row, gap, self.seed) for row, gap in zip(self.rows, self.differences)],
            headers=COLUMNS,
            tablefmt="plain",
            disable_numparse=True,
            colalign=["left" if name in LEFT else "right" for name in COLUMNS],
        )
        header, *lines = [line.rstrip() for line in table.splitlines()]
        ruler = "-" * max(map(len, (header, *lines)))
        return "\n".join([header, ruler, *lines, ruler, *self._notes()])

    def _notes(self) -> list[str]:
        best = self.best
        num_scored = int(np.sum(~np.isnan(best.precisions)))
        lines = [f"{num_scored} queries scored in {best.num_gallery} images; no training."]
        too_few = too_few_note(num_scored)
        if too_few:
            lines.append(f"warning: {too_few}")
        runtimes = " and ".join(
            dict.fromkeys(f"{row.runtime}, {row.precision}" for row in self.rows)
        )
        lines.append(
            f"images/s: the embedding alone, {runtimes}, batches of {best.batch_size}, "
            f"{best.num_cores} cores; measured once for each trunk and size"
        )
        if len(self.rows) > 2:
            lines.append("p: of each pair alone; of many rows, a few differ by chance")
        return lines

    def figures(self) -> list[dict[str, Any]]:
        """Return the figures of each row as `--json` writes them."""
        return [_figures(row, gap, self.seed) for row, gap in zip(self.rows, self.differences)]


def trunk_table(rows: Sequence[TrunkRow], seed: int) -> TrunkTable:
    """Sort rows by mAP, and test the best against each of the others.

    Args:
        rows: at least one, of the same queries.
        seed: of the bootstrap.

    Returns:
        The table.

    Raises:
        ValueError: there is no row, or the rows are of different queries.
    """
    if not rows:
        raise ValueError("nothing to rank: no trunk could be measured.")
    if len({len(row.average_precisions) for row in rows}) > 1:
        raise ValueError("the rows are of different queries: some images were read only once.")
    ordered = sorted(rows, key=lambda row: -row.mean_average_precision)
    best, *others = ordered
    gaps = [paired_bootstrap(best.precisions, row.precisions, seed) for row in others]
    return TrunkTable(tuple(ordered), (None, *gaps), seed)


def _cells(row: TrunkRow, gap: PairedDifference | None, seed: int) -> tuple[str, ...]:
    difference: tuple[str, ...] = ("", "", "")
    if gap is not None:
        difference = (f"{gap.mean:+.4f}", f"{gap.low:+.4f} .. {gap.high:+.4f}", p_text(gap.p_value))
    return (
        row.weights,
        str(row.size_px),
        row.pooling,
        f"{row.mean_average_precision:.4f}",
        interval_text(score_interval(row.precisions, seed)),
        f"{row.recall_at_1:.4f}",
        f"{row.images_per_s:.1f}",
        row.runtime,
        f"{row.gmac:.2f}",
        f"{row.megabytes:.1f}",
        str(row.dimension),
        *difference,
    )


def _figures(row: TrunkRow, gap: PairedDifference | None, seed: int) -> dict[str, Any]:
    per_query = ("average_precisions", "recalls_at_1")
    figures = {name: value for name, value in vars(row).items() if name not in per_query}
    figures |= {
        "mAP": row.mean_average_precision,
        "mAP_ci95": list(score_interval(row.precisions, seed)),
        "recall_at_1": row.recall_at_1,
        "recall_at_1_ci95": list(score_interval(row.recalls, seed)),
        "num_queries": int(np.sum(~np.isnan(row.precisions))),
        "seed": seed,
    }
    if gap is not None:
        figures["best_minus_this"] = vars(gap)
    return figures
