"""Choose and draw the number of inliers from which a pair of images is accepted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_io.files.artifacts import atomic_path
from data_io.files.caches import cache_folder

# The axis is linear up to here, then logarithmic: thresholds are near ten, matching pairs have
# hundreds of inliers.
LINEAR_UP_TO = 20
TICKS = (0, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
MATCHING_COLOR = "#2a78b8"
OTHER_COLOR = "#d9792b"
THRESHOLD_COLOR = "#333333"

Values = Sequence[float] | np.ndarray


def accepted_share(values: Values, threshold: float) -> float:
    """Return the share of pairs that reach a threshold.

    Args:
        values: number of inliers or score of each pair, [pairs].
        threshold: smallest accepted value.

    Returns:
        0 to 1; NaN without pairs.

    >>> accepted_share([3, 12, 40], threshold=12)
    0.6666666666666666
    """
    return float(np.mean(np.asarray(values) >= threshold)) if len(values) else float("nan")


def choose_threshold(false_counts: Values, max_false_share: float = 0.005) -> int:
    """Choose the smallest number of inliers that few pairs of different objects reach.

    Args:
        false_counts: inliers of each pair of different objects, [pairs]; 200 pairs resolve shares
            of 0.5 %.
        max_false_share: largest share of these pairs that may reach the threshold.

    Returns:
        The threshold, at least 1.

    Raises:
        ValueError: there is no pair, or the share is outside [0, 1).

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
    # 0.005 * 1,000 pairs must be 5, whatever the last bit of the product is.
    num_allowed = int(max_false_share * len(falling) + 1e-9)
    return max(1, int(np.floor(falling[num_allowed])) + 1)


def draw_match_histogram(
    path: str | Path,
    true_values: Values,
    false_values: Values,
    threshold: float,
) -> None:
    """Draw histograms of matching and of other pairs into a PNG file, with a logarithmic y axis.

    Args:
        path: of the PNG file.
        true_values: inliers of each matching pair, [pairs].
        false_values: inliers of each other pair, [pairs].
        threshold: from which a pair is accepted; the legend shows the share of each kind.

    Raises:
        ValueError: there are no pairs, or matplotlib is not installed.
    """
    # The picture needs no settings of the user, whose folder may not be writable.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError(
            'drawing a histogram needs matplotlib: pip install -e ".[viz]" in the clone.'
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
        ("other pairs", false_values, OTHER_COLOR),
        ("matching pairs", true_values, MATCHING_COLOR),
    ):
        label = f"{len(pairs):,} {kind}"
        if len(pairs):
            label += f": {100 * accepted_share(pairs, threshold):.2f} % accepted"
        axes.hist(pairs, edges, color=color, alpha=0.65, label=label)
    label = f"accepted from {threshold:g} on"
    axes.axvline(threshold, color=THRESHOLD_COLOR, linestyle="--", linewidth=1.5, label=label)
    _format_axes(axes, edges)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _format_axes(axes: Any, edges: Sequence[float]) -> None:
    axes.set_xscale("asinh", linear_width=LINEAR_UP_TO)
    ticks = [tick for tick in TICKS if tick <= edges[-1]]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlim(edges[0], edges[-1])
    axes.tick_params(axis="x", which="minor", bottom=False)
    title = "Inliers of matching and of other pairs"
    axes.set(yscale="log", xlabel="inliers", ylabel="pairs", title=title)
    axes.set_ylim(bottom=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _edges(values: np.ndarray, threshold: float) -> list[float]:
    """Return edges of bins: one wide up to 2 * LINEAR_UP_TO, then a twentieth of their value.

    The threshold is an edge.
    """
    edges = [float(np.floor(values.min()))]
    while edges[-1] <= values.max():
        edges.append(edges[-1] + max(1, edges[-1] // LINEAR_UP_TO))
    return sorted({*edges, threshold})
