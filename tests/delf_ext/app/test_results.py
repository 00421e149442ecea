"""Test the files that results are written to."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_io.datasets import DataSet
from data_io.files.artifacts import load_record, read_json
from data_io.records import NO_LABEL, Ranking
from delf_ext.app.evaluation import evaluate
from delf_ext.app.reranking import Request
from delf_ext.app.results import write_page, write_sheet, write_to_run
from delf_ext.features.embedder import Embedder
from delf_ext.reranking.chain import parse_chain
from delf_ext.runs.records import Facts, Run
from delf_ext.runs.run_directory import write_run

SIZE_PX = 32


CHAIN = parse_chain("aqe:1")


def mean_colour(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2)) - 127.0


COLOUR = Embedder("colour", SIZE_PX, "v1", mean_colour)


def run_in(path: Path) -> Run:
    return write_run(path, "keras_baseline", None, Facts())


def test_results_of_data_sets_with_equal_names_have_different_files(
    several: DataSet,
    data: DataSet,
    tmp_path: Path,
) -> None:
    run = run_in(tmp_path / "[2024] w*?")
    written: list[list[Path]] = []
    for one in (several, data):
        result = evaluate(COLOUR, one)
        written.append(write_to_run(run, result.final, result.figures, one, "", report=False))
        assert read_json(written[-1][0]) == json.loads(json.dumps(result.figures))
        ranking = load_record(written[-1][1], Ranking)
        np.testing.assert_array_equal(ranking.rows, result.final.ranking.rows)
    assert several.name == data.name == "products"
    metrics = sorted((run.path / "metrics").iterdir())
    assert len(metrics) == 2 and sorted(paths[0] for paths in written) == metrics
    rankings = sorted((run.path / "ranking").iterdir())
    assert [path.stem for path in metrics] == [path.stem for path in rankings]


def test_result_with_a_method_does_not_overwrite_the_plain_one(
    several: DataSet,
    tmp_path: Path,
) -> None:
    run = run_in(tmp_path)
    plain = evaluate(COLOUR, several)
    better = evaluate(COLOUR, several, request=Request(chains=(CHAIN,)))
    (first, _) = write_to_run(run, plain.final, plain.figures, several, "", report=False)
    again = write_to_run(run, better.final, better.figures, several, "aqe:1", report=True)
    assert again[0].stem == f"{first.stem}-aqe-1" and first.is_file()
    assert again[2] == tmp_path / "report" / again[0].stem / "index.html"
    assert "mandoo on products" in again[2].read_text()
    write_to_run(run, plain.final, plain.figures, several, "", report=False)
    assert len(list((tmp_path / "metrics").iterdir())) == 2


def test_written_ranking_is_cut(
    several: DataSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("delf_ext.app.results.KEPT_PER_QUERY", 4)
    result = evaluate(COLOUR, several)
    written: Any = write_to_run(
        run_in(tmp_path),
        result.final,
        result.figures,
        several,
        "",
        False,
    )
    kept = load_record(written[1], Ranking)
    np.testing.assert_array_equal(kept.rows, result.final.ranking.rows[:, :4])


def test_page_counts_images_without_a_label(several: DataSet, tmp_path: Path) -> None:
    labels = {name: getattr(several, name).labels.copy() for name in ("query", "gallery")}
    labels["query"][2] = labels["gallery"][:5] = NO_LABEL
    lists = {
        name: dataclasses.replace(getattr(several, name), labels=values)
        for name, values in labels.items()
    }
    partly = dataclasses.replace(several, **lists)
    measured = evaluate(COLOUR, partly).final
    page = write_page(tmp_path / "page.html", [measured], partly, "d", 0).read_text()
    assert "1 of 6 queries have no label: they are not scored" in page
    assert "5 of 18 gallery images have no label" in page
    assert "· no label ·" in page and "class -1" not in page
    write_sheet(tmp_path / "sheet.jpg", measured, 0)
    assert (tmp_path / "sheet.jpg").stat().st_size
