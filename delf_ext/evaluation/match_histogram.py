"""From how many inliers on a pair is believed: two histograms, matching and other pairs, and a threshold between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_io.artifacts import atomic_path

LINEAR_UP_TO = (
    20  # then the axis turns logarithmic: thresholds lie at tens, matching pairs at hundreds
)
TICKS = (0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
MATCHING, OTHER, LINE = "#2a78b8", "#d9792b", "#333333"

Values = Sequence[float] | np.ndarray


def accepted_share(values: Values, threshold: float) -> float:
    """Share of pairs that reach `threshold`; NaN without pairs.

    >>> accepted_share([3, 12, 40], threshold=12)
    0.6666666666666666
    """
    return float(np.mean(np.asarray(values) >= threshold)) if len(values) else float("nan")


def choose_threshold(false_counts: Values, max_false_share: float = 0.005) -> int:
    """The smallest number of inliers, at least 1, that at most `max_false_share` of the non-matching pairs reach.

    false_counts: inliers of pairs that show different objects; two hundred pairs show shares of 0.5 % and not less.
    Raises: ValueError without such pairs, or on a share that is none.

    >>> choose_threshold([4, 5, 5, 9], max_false_share=0.25)
    6
    """
    if not len(false_counts):
        raise ValueError("a threshold needs at least one pair of different objects.")
    if not 0 <= max_false_share < 1:
        raise ValueError(
            f"max_false_share must be at least 0 and below 1. Received {max_false_share}."
        )
    falling = np.sort(np.asarray(false_counts))[::-1]
    allowed = int(
        max_false_share * len(falling) + 1e-9
    )  # 0.005 * 1,000 pairs are five, whatever the last bit says
    return max(1, int(np.floor(falling[allowed])) + 1)


def draw_match_histogram(
    path: str | Path,
    true_values: Values,
    false_values: Values,
    threshold: float,
    what: str = "inliers",
) -> None:
    """Writes a PNG: how many matching and how many other pairs have how many inliers (or which score), log y axis.

    The legend tells which share of each reaches the threshold. Raises: ValueError without pairs, or without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(
            "drawing a histogram needs matplotlib, the extra [viz]: pip install matplotlib"
        ) from None
    values = np.concatenate(
        [np.asarray(true_values, np.float64), np.asarray(false_values, np.float64)]
    )
    if not len(values):
        raise ValueError("a histogram needs at least one verified pair.")
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    edges = _edges(values, threshold)
    for kind, pairs, color in (
        ("other pairs", false_values, OTHER),
        ("matching pairs", true_values, MATCHING),
    ):
        accepted = (
            f": {100 * accepted_share(pairs, threshold):.2f} % accepted" if len(pairs) else ""
        )
        axes.hist(pairs, edges, color=color, alpha=0.65, label=f"{len(pairs):,} {kind}{accepted}")
    axes.axvline(
        threshold,
        color=LINE,
        linestyle="--",
        linewidth=1.5,
        label=f"accepted from {threshold:g} on",
    )
    axes.set_xscale("asinh", linear_width=LINEAR_UP_TO)
    axes.set_xticks(
        ticks := [tick for tick in TICKS if tick <= edges[-1]], map("{:,}".format, ticks)
    )
    axes.set_xlim(edges[0], edges[-1])
    axes.tick_params(axis="x", which="minor", bottom=False)
    axes.set(
        yscale="log",
        xlabel=what,
        ylabel="pairs",
        title=f"{what.capitalize()} of matching and of other pairs",
    )
    axes.set_ylim(bottom=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _edges(values: np.ndarray, threshold: float) -> list[float]:
    """Bins one wide, from twice LINEAR_UP_TO on a twentieth of their value; none lies across the threshold."""
    edges = [float(np.floor(values.min()))]
    while edges[-1] <= values.max():
        edges.append(edges[-1] + max(1, edges[-1] // LINEAR_UP_TO))
    return sorted({*edges, threshold})
