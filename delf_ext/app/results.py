"""Write figures, rankings and report pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_io.artifacts import save_record, write_json
from data_io.datasets import DataSet
from data_io.stores.embedding_parts import contents_of
from delf_ext.app.evaluation import Measured
from delf_ext.evaluation.pictures import DrawMatch
from delf_ext.evaluation.report import write_report
from delf_ext.pipeline import KEPT_PER_QUERY
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import result_name


def keep_in_run(
    run: Run, measured: Measured, figures: dict[str, Any], data: DataSet, method: str, report: bool
) -> list[Path]:
    """Write metrics/NAME.json, ranking/NAME.npz and, with `report`, report/NAME/index.html; return what was written.

    NAME is that of the data set and the method: the results of several data sets stay side by side.
    """
    lists = (measured.retrieval.query, measured.retrieval.gallery)
    contents = [content for images in lists for content in contents_of(images.paths.tolist())]
    name = result_name(data.name, contents, method)
    written = [run.path / "metrics" / f"{name}.json", run.path / "ranking" / f"{name}.npz"]
    save_record(written[1], measured.ranking.cut(KEPT_PER_QUERY))
    write_json(written[0], figures)
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
) -> Path:
    """Write the report over the queries and gallery of the first model. draw_match: pictures of matches."""
    retrieval, facts = measured[0].retrieval, {"data": data_name, "seed": str(seed)}
    results = [one.evaluated for one in measured]
    title = f"mandoo on {data.name}"
    truth, names = measured[0].truth, data.class_names
    return write_report(
        path,
        title,
        results,
        retrieval.query,
        retrieval.gallery,
        truth,
        names,
        seed=seed,
        facts=facts,
        draw_match=draw_match,
    )
