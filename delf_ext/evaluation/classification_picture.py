"""Draw how often labels are right at each probability, and which classes are confused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_io.files.artifacts import atomic_path
from data_io.files.caches import cache_folder
from data_io.files.marks import MARK
from data_io.files.names import shown
from delf_ext.evaluation.classification import (
    Predicted,
    accuracy,
    confusions,
    expected_calibration_error,
    reliability,
)

NUM_CONFUSIONS = 15
RIGHT_COLOR = "#2a78b8"
WRONG_COLOR = "#d9792b"


def require_matplotlib() -> None:
    """Raise ValueError unless matplotlib is installed."""
    # The picture needs no settings of the user, whose folder may not be writable.
    os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ValueError(
            '--picture needs matplotlib: pip install -e ".[viz]" in the clone.'
        ) from None


def draw_classification(path: str | Path, predicted: Predicted, class_names: Sequence[str]) -> None:
    """Draw a PNG file: reliability diagram, and the most frequent confusions.

    Args:
        path: of the PNG file.
        predicted: Q predictions, at least one.
        class_names: name of each class.

    Raises:
        ValueError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    _draw_reliability(left, predicted)
    _draw_confusions(right, predicted, class_names)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": MARK})


def _draw_reliability(axes: Any, predicted: Predicted) -> None:
    bins = list(reliability(predicted))
    largest = max(one.number for one in bins)
    for one in bins:
        axes.bar(
            one.low,
            one.accuracy,
            one.high - one.low,
            align="edge",
            color=RIGHT_COLOR,
            alpha=0.25 + 0.75 * one.number / largest,
            edgecolor="white",
        )
        axes.annotate(
            f"{one.number}",
            ((one.low + one.high) / 2, one.accuracy),
            ha="center",
            va="bottom",
            fontsize=7,
        )
    axes.plot([0, 1], [0, 1], color="#333333", linestyle="--", linewidth=1)
    ece = expected_calibration_error(predicted)
    axes.set(
        xlim=(0, 1),
        ylim=(0, 1.05),
        xlabel="probability of the label",
        ylabel="share of right labels",
        title=f"{len(predicted.true)} queries: {accuracy(predicted):.1%} right, ECE {ece:.3f}",
    )
    axes.spines[["top", "right"]].set_visible(False)


def _draw_confusions(axes: Any, predicted: Predicted, class_names: Sequence[str]) -> None:
    worst = confusions(predicted)[:NUM_CONFUSIONS][::-1]
    names = [f"{_name(one.true, class_names)} → {_name(one.label, class_names)}" for one in worst]
    axes.barh(range(len(worst)), [one.num_true for one in worst], color="#dddddd")
    axes.barh(range(len(worst)), [one.number for one in worst], color=WRONG_COLOR)
    axes.set_yticks(range(len(worst)), names, fontsize=8)
    title = "Confusions (gray: queries of the class)" if worst else "No confusions"
    axes.set(xlabel="queries", title=title)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)


def _name(label: int, class_names: Sequence[str]) -> str:
    name = shown(class_names[label]) if label >= 0 else "none"
    # "$" would start a formula.
    return (name if len(name) <= 28 else f"{name[:27]}…").replace("$", r"\$")
