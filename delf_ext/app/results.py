"""Write figures, rankings and report pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_io.datasets import DataSet
from data_io.files.artifacts import save_record, write_json
from data_io.files.contents import contents_of
from data_io.messages import unlabelled_notes
from delf_ext.app.measured import Measured
from delf_ext.app.trained_on import TrainedQueries
from delf_ext.evaluation.pictures import DrawMatch
from delf_ext.evaluation.report import write_report
from delf_ext.evaluation.result_sheet import draw_result_sheet
from delf_ext.pipeline import KEPT_PER_QUERY
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import result_name

# Copies that the page lists; the JSON file lists all.
NUM_LISTED = 100


def write_to_run(
    run: Run, measured: Measured, figures: dict[str, Any], data: DataSet, method: str, report: bool
) -> list[Path]:
    """Write a result into a run directory.

    Writes metrics/NAME.json, ranking/NAME.npz and, with `report`, report/NAME/index.html. NAME is
    made from the data set, its images and the method, so results do not overwrite each other.

    Args:
        run: the run directory.
        measured: the measurement.
        figures: its figures.
        data: the data set; gives its name and its class names.
        method: name of the re-ranking method; "" = none.
        report: whether to write the report page.

    Returns:
        Paths of the metrics, the ranking and, with `report`, the page.
    """
    lists = (measured.retrieval.query, measured.retrieval.gallery)
    contents = [content for images in lists for content in contents_of(images.paths.tolist())]
    name = result_name(data.name, contents, method)
    metrics_path = run.path / "metrics" / f"{name}.json"
    ranking_path = run.path / "ranking" / f"{name}.npz"
    save_record(ranking_path, measured.ranking.cut(KEPT_PER_QUERY))
    write_json(metrics_path, figures)
    written = [metrics_path, ranking_path]
    if report:
        page = run.path / "report" / name / "index.html"
        written.append(write_page(page, [measured], data, figures["data"], figures["seed"]))
    return written


def write_page(
    path: Path,
    measured: list[Measured],
    data: DataSet,
    data_name: str,
    seed: int,
    draw_match: DrawMatch | None = None,
    remarks: Sequence[str] = (),
) -> Path:
    """Write the report page on the queries and the gallery of the first measurement.

    Args:
        path: the HTML file to write.
        measured: one or more measurements on the same data.
        data: the data set; gives its name and its class names.
        data_name: name or path of the data on the page.
        seed: seed of the bootstrap.
        draw_match: draws the matches of a query and a gallery image; None = no such pictures.
        remarks: lines below the table.

    Returns:
        The path of the page.
    """
    first = measured[0]
    facts = {"data": data_name}
    notes = list(unlabelled_notes(first.retrieval.query, first.retrieval.gallery))
    if notes:
        facts["without a label"] = "; ".join(notes)
    return write_report(
        path,
        f"mandoo on {data.name}",
        [item.evaluated for item in measured],
        first.retrieval.query,
        first.retrieval.gallery,
        first.truth,
        data.class_names,
        seed=seed,
        facts=facts,
        remarks=[*remarks, *_remarks(measured)],
        draw_match=draw_match,
    )


def _remarks(measured: list[Measured]) -> list[str]:
    """Return lines about queries that were trained on, of each model, and about copies."""
    lines = []
    shown: list[TrainedQueries] = []
    for item in measured:
        # A re-ranked measurement has the record of the plain one.
        if not any(item.trained is trained for trained in shown):
            shown.append(item.trained)
            prefix = f"{item.evaluated.name}: " if len(measured) > 1 else ""
            lines += [prefix + line for line in item.retrieval.failed_notes()]
            lines += [prefix + line for line in item.trained.notes(NUM_LISTED)]
    return [*lines, *measured[0].duplicates.notes(NUM_LISTED)]


def write_sheet(path: Path, measured: Measured, seed: int, num_queries: int = 5) -> Path:
    """Draw randomly chosen labelled queries and their first results as one picture.

    Args:
        path: JPEG file to write.
        measured: the ranking to show.
        seed: of the choice.
        num_queries: how many queries to show.

    Returns:
        The path.
    """
    retrieval = measured.retrieval
    candidates = np.flatnonzero(retrieval.query.has_label)
    rng = np.random.default_rng(seed)
    num_shown = min(num_queries, len(candidates))
    rows = np.sort(rng.choice(candidates, num_shown, replace=False))
    draw_result_sheet(
        path, retrieval.query, retrieval.gallery, measured.ranking, measured.truth, rows
    )
    return path
