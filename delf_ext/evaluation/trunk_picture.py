"""Draw ranked trunks: mAP against multiply-accumulates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from data_io.files.artifacts import atomic_path
from data_io.files.caches import cache_folder
from delf_ext.evaluation.intervals import score_interval
from delf_ext.evaluation.trunk_table import TrunkRow, TrunkTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = {"avg": "o", "gem": "s", "attention": "^"}
COLORS = ("#2a78b8", "#d9792b", "#3a9a5b", "#a04fa0", "#8a6d3b", "#777777")


def draw_trunks(path: Path, table: TrunkTable) -> None:
    """Draw a PNG file: one point for each row, with the 95 % interval of its mAP.

    Args:
        path: of the PNG file.
        table: the rows.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    # The picture needs no settings of the user, whose folder may not be writable.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    weights = list(dict.fromkeys(row.weights for row in table.rows))
    for row in sorted(table.rows, key=lambda row: (weights.index(row.weights), row.pooling)):
        color = COLORS[weights.index(row.weights) % len(COLORS)]
        _draw_row(axes, row, color, row is table.best, table.seed)
    labels = dict(zip(*reversed(axes.get_legend_handles_labels())))
    axes.legend(labels.values(), labels.keys(), frameon=False, fontsize=8)
    axes.set(
        xscale="log",
        xlabel="GMac for one image (multiply-accumulates, logarithmic)",
        ylabel="mAP, 95 % interval",
        title="Untrained trunks; filled: the best, numbers: size in pixels",
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_row(axes: Axes, row: TrunkRow, color: str, is_filled: bool, seed: int) -> None:
    low, high = score_interval(row.precisions, seed)
    value = row.mean_average_precision
    axes.errorbar(
        row.gmac,
        value,
        yerr=[[value - low], [high - value]],
        fmt=MARKERS.get(row.pooling, "D"),
        color=color,
        elinewidth=0.8,
        markerfacecolor=color if is_filled else "white",
        label=f"{row.weights}, {row.pooling}",
    )
    axes.annotate(
        f"{row.size_px}",
        (row.gmac, value),
        textcoords="offset points",
        xytext=(6, 3),
        fontsize=8,
        color=color,
    )
