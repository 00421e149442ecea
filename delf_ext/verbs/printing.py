"""Print lines and figures, and write figures."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet
from data_io.files.artifacts import write_json
from data_io.files.marks import marked
from data_io.files.skipped_files import warn_if_mostly_skipped
from data_io.messages import error_line, shown_path, skipped_lines
from data_io.progress import say
from delf_ext.app.evaluation import Evaluation
from delf_ext.app.results import write_to_run
from delf_ext.evaluation.intervals import too_few_note
from delf_ext.pipeline import Retrieval
from delf_ext.runs.records import Run

MAIN_METRICS = {"mAP": "mAP", "recall_at_1": "R@1"}


class HeldLog:
    """A log that prints nothing before `release`, and then each line as it comes.

    A model keeps its log for later lines.
    """

    def __init__(self) -> None:
        self._held: list[str] | None = []

    def __call__(self, line: str) -> None:
        """Print a line, or hold it back."""
        if self._held is None:
            say(line)
        else:
            self._held.append(line)

    def release(self) -> None:
        """Print the lines that were held back, and all later ones."""
        held = self._held or []
        self._held = None
        for line in held:
            say(line)


def show_figures(result: dict[str, Any]) -> None:
    """Print the figures of one model, first mAP and R@1 with their intervals.

    Args:
        result: the figures that `evaluate` writes to --json.
    """
    interval = f"95 % bootstrap over {result['num_queries']} queries, seed {result['seed']}"
    for name, title in MAIN_METRICS.items():
        low, high = result[f"{name}_ci95"]
        print(f"{title:<20} {result[name]:.4f}  [{low:.4f}, {high:.4f}] {interval}")
    too_few = too_few_note(result["num_queries"])
    if too_few:
        print(f"warning: {too_few}")
    for name, value in result["metrics"].items():
        if name in MAIN_METRICS or math.isnan(value):
            continue
        text = str(int(value)) if name.startswith("num_") else f"{value:.4f}"
        print(f"{name:<20} {text}")
    for group, figures in result.get("groups", {}).items():
        print(
            f"group {group}: mAP {figures['mAP']:.4f}, R@1 {figures['recall_at_1']:.4f}, "
            f"{int(figures['num_queries'])} queries"
        )
    for line in skipped_lines([*result["skipped"], *result["skipped_folders"]]):
        print(line)


def show_mostly_skipped(retrieval: Retrieval) -> None:
    """Print a warning if most files of the data or of a folder were skipped; call this last."""
    warn_if_mostly_skipped(retrieval.skipped, retrieval.paths, say)


def write_figures(path: str | Path, figures: Any) -> None:
    """Write figures to a JSON file, and print its path."""
    write_json(path, marked(figures))
    say(f"figures: {shown_path(path)}")


def keep_in_run(
    run: Run, evaluation: Evaluation, data: DataSet, method: str = "", page: bool = True
) -> None:
    """Write the figures of an evaluation and a page into the run directory, and print the paths.

    Args:
        run: the run of the model.
        evaluation: what was measured.
        data: what it was measured on.
        method: re-ranking chain and copies of the queries; "" for none.
        page: also write the page.

    Raises:
        OSError: the disk is full or broken. A run that may not be written to is no error.
    """
    try:
        written = write_to_run(run, evaluation.final, evaluation.figures, data, method, page)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        say(f"the figures are not kept in the run: {error_line(error)}")
        return
    say(f"figures: {shown_path(written[0])}")
    if page:
        say(f"report: {shown_path(written[-1])}")
