"""The query's own photograph, and photographs that were trained on, in figures and reports."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from data_io.datasets import DataSet
from data_io.files.artifacts import read_json
from data_io.files.contents import content_digest
from data_io.photographs import Photographs
from data_io.records import ImageList
from delf_ext.app.comparison import compare
from delf_ext.app.evaluation import evaluate
from delf_ext.app.evaluators import build_evaluator
from delf_ext.app.reranking import Request
from delf_ext.app.results import write_to_run
from delf_ext.app.trained_on import TrainedPhotographs
from delf_ext.features.embedder import Embedder, HeldBack
from delf_ext.recipes import schema
from delf_ext.reranking.chain import parse_chain
from delf_ext.runs.records import Facts
from delf_ext.runs.run_directory import write_run

COLOUR = Embedder("colour", 32, "v1", lambda images: images.mean(axis=(1, 2)) - 127.0)
HALF = Embedder("half", 32, "v2", lambda images: images[:, :16].mean(axis=(1, 2)) - 127.0)
NOTE = "6 queries have a copy in the gallery: these copies are left out of their rankings"


def with_files(data: DataSet, files: list[Path], labels: list[int]) -> DataSet:
    """Return the data with more gallery images."""
    old = data.gallery
    gallery = ImageList(
        [*old.ids.tolist(), *(f"more{row}" for row in range(len(files)))],
        [*old.paths.tolist(), *map(str, files)],
        [*old.labels.tolist(), *labels],
    )
    return dataclasses.replace(data, gallery=gallery)


@pytest.fixture
def listed_twice(several: DataSet) -> DataSet:
    """Return data whose gallery also has the very files of the queries."""
    paths = list(map(Path, several.query.paths))
    return with_files(several, paths, several.query.labels.tolist())


@pytest.fixture
def copied(several: DataSet, tmp_path: Path) -> DataSet:
    """Return data whose gallery also has a copy of each query: files, then links."""
    files = []
    for row, path in enumerate(several.query.paths):
        files.append(tmp_path / f"own{row}{Path(path).suffix}")
        shutil.copyfile(path, files[-1]) if row < 4 else files[-1].symlink_to(path)
    return with_files(several, files, several.query.labels.tolist())


def test_copies_and_links_are_left_out_as_the_very_file_is(
    listed_twice: DataSet, copied: DataSet
) -> None:
    lines: list[str] = []
    expected = evaluate(COLOUR, listed_twice)
    result = evaluate(COLOUR, copied, log=lines.append)
    assert result["num_gallery"] == 24
    assert result["metrics"] == expected["metrics"] and expected["recall_at_1"] < 1
    assert result["duplicates"]["num_queries"] == len(result["duplicates"]["copies"]) == 6
    assert NOTE in lines
    request = Request(chains=(parse_chain("k_reciprocal:3,2,0.3"),))
    chained = [evaluate(COLOUR, data, request=request) for data in (listed_twice, copied)]
    assert chained[0]["metrics"] == chained[1]["metrics"] and chained[0]["recall_at_1"] < 1


def test_copies_count_or_are_refused_if_asked_for(copied: DataSet) -> None:
    counted = evaluate(COLOUR, copied, duplicates="count")
    # The four copies are found first; a link is the query's own file.
    assert counted["recall_at_1"] >= 4 / 6 > evaluate(COLOUR, copied)["recall_at_1"]
    truth = counted.plain.truth
    assert [len(rows) for rows in truth.junk] == [0, 0, 0, 0, 1, 1]
    for call in (evaluate, lambda *a, **k: compare([COLOUR, HALF], *a[1:], **k)):
        with pytest.raises(ValueError, match="6 queries have a copy in the gallery; the first: "):
            call(COLOUR, copied, duplicates="error")


def test_compare_and_validation_leave_copies_out(listed_twice: DataSet, copied: DataSet) -> None:
    lines: list[str] = []
    models = [COLOUR, HALF]
    result = compare(models, copied, log=lines.append)
    assert [row.mean_average_precision for row in result.rows] == [
        row.mean_average_precision for row in compare(models, listed_twice).rows
    ]
    assert lines.count(NOTE) == 1
    values = [
        dict(build_evaluator(schema.Retrieval(), data.query, data.gallery, 8)(COLOUR))
        for data in (listed_twice, copied)
    ]
    assert values[0] == values[1]


def test_queries_that_find_only_copies_of_themselves_are_not_scored(
    several: DataSet, copied: DataSet
) -> None:
    first = several.query.take([0])
    only_copy = copied.gallery.take([18])
    message = "all relevant images of the 1 queries are copies of them"
    with pytest.raises(ValueError, match=message):
        evaluate(COLOUR, dataclasses.replace(several, query=first, gallery=only_copy))
    label = int(first.labels[0])
    kept = several.gallery.take(several.gallery.labels != label)
    gallery = dataclasses.replace(several, gallery=kept)
    mixed = with_files(gallery, [Path(several.query.paths[0])], [label])
    lines: list[str] = []
    result = evaluate(COLOUR, mixed, log=lines.append)
    assert result["duplicates"]["num_only_copies"] == 1
    assert "1 query is not scored: all relevant images are copies of the query" in lines
    # The other query of the class finds the file, because it is not its own.
    assert result["num_queries"] == 5


# --- trained photographs


def trained_on(model: Embedder, paths: list[str], *names: str) -> Embedder:
    photographs = Photographs({names[0]: tuple(map(content_digest, paths))})
    return dataclasses.replace(model, held_back=HeldBack(classes=names, photographs=photographs))


def test_the_log_line_counts_the_classes_that_were_trained_on(several: DataSet) -> None:
    names = [several.class_names[label] for label in sorted(set(several.query.labels.tolist()))]
    lines: list[str] = []
    model = trained_on(COLOUR, [], names[0], "other")
    figures = evaluate(model, several, log=lines.append).figures
    assert lines[0] == (
        f"colour: 6 queries in a gallery of 18: queries and gallery of the data; 1 of {len(names)} "
        "query classes were trained on"
    )
    assert figures["training"]["num_trained_query_classes"] == 1
    lines.clear()
    evaluate(COLOUR, several, log=lines.append)
    assert lines[0] == "colour: 6 queries in a gallery of 18: queries and gallery of the data"


def test_trained_photographs_are_refused_or_said_everywhere(
    several: DataSet, tmp_path: Path
) -> None:
    seen = trained_on(COLOUR, several.query.paths[:2].tolist(), "cup")
    message = f"2 of 6 query photographs were trained on; the first: {several.query.paths[0]}, as"
    with pytest.raises(TrainedPhotographs, match=message):
        evaluate(seen, several)
    with pytest.raises(TrainedPhotographs, match=message):
        compare([HALF, seen], several)
    lines: list[str] = []
    note = "2 of 6 query photographs were trained on (--allow_trained_photographs)"
    result = evaluate(seen, several, allow_trained_photographs=True, log=lines.append)
    assert note in lines
    assert result["training"]["num_trained_photographs"] == 2
    both = compare([HALF, seen], several, allow_trained_photographs=True, log=lines.append)
    assert f"colour: {note}" in lines
    assert [row["training"]["num_trained_photographs"] for row in both.figures] == [0, 2]
    assert html_of(result, several, tmp_path).count(note) == 1


def html_of(result: Any, data: DataSet, folder: Path) -> str:
    run = write_run(folder / "run", "keras_baseline", None, Facts())
    metrics, _, page = write_to_run(run, result.final, result.figures, data, "", report=True)
    assert read_json(metrics) == json.loads(json.dumps(result.figures))
    return page.read_text()


def test_the_page_lists_copies(copied: DataSet, tmp_path: Path) -> None:
    html = html_of(evaluate(COLOUR, copied), copied, tmp_path)
    assert "6 queries have a copy in the gallery" in html
    assert html.count("<li>copy: ") == 6
