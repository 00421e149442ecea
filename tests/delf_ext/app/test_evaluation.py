"""Test evaluate: figures against simple loops."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_io.datasets import DataSet, load_dataset
from data_io.images import load_image
from data_io.records import NO_LABEL, ImageList
from data_io.synthetic.dataset import DrawConfig, draw_dataset
from delf_ext.app.comparison import compare
from delf_ext.app.data import split
from delf_ext.app.evaluation import evaluate, measure, measure_reranked
from delf_ext.app.evaluation_lists import common_lists
from delf_ext.app.reranking import Request, Reranker
from delf_ext.app.training import train
from delf_ext.app.training_settings import Settings
from delf_ext.evaluation.metrics import average_precisions
from delf_ext.features.embedder import Embedder, HeldBack
from delf_ext.recipes import schema
from delf_ext.recipes.schema import Recipe
from delf_ext.reranking.chain import parse_chain
from delf_ext.reranking.deadline import Deadline
from delf_ext.runs.opening import open_model
from delf_ext.runs.run_directory import read_run
from delf_ext.runs.sources import Runtime

SIZE_PX = 32
CHAIN = parse_chain("aqe:1")


def mean_colour(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2)) - 127.0


COLOUR = Embedder("colour", SIZE_PX, "v1", mean_colour)


def similarities(query: ImageList, gallery: ImageList) -> np.ndarray:
    """Return the similarities [Q, N] of the mean colours."""
    sides = []
    for images in (query, gallery):
        pixels = np.stack([load_image(path, SIZE_PX) for path in images.paths])
        vectors = mean_colour(pixels)
        sides.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return sides[0] @ sides[1].T


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError) as caught:
        call()
    return str(caught.value)


# --- evaluate


def test_model_that_tells_no_images_apart_is_named(several: DataSet) -> None:
    collapsed = Embedder("constant", SIZE_PX, "v1", lambda images: np.ones((len(images), 4)))
    for model, is_named in ((collapsed, True), (COLOUR, False)):
        lines: list[str] = []
        evaluate(model, several, log=lines.append)
        text = "\n".join(lines)
        assert ("the model gives all 18 images nearly the same embedding" in text) == is_named


def test_market_1501_leaves_the_own_camera_out_and_keeps_distractors(tmp_path: Path) -> None:
    colours = {
        "query/0001_c1s1_000001_00.jpg": (250, 5, 5),
        "bounding_box_test/0001_c1s1_000002_00.jpg": (249, 6, 5),
        "bounding_box_test/-1_c2s1_000003_00.jpg": (248, 7, 5),
        "bounding_box_test/0000_c2s1_000004_00.jpg": (240, 30, 5),
        "bounding_box_test/0001_c2s1_000005_00.jpg": (230, 60, 5),
        "bounding_box_test/0002_c2s1_000006_00.jpg": (5, 250, 5),
    }
    for name, colour in colours.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), colour).save(tmp_path / name, quality=100)
    lines: list[str] = []
    found = evaluate(COLOUR, tmp_path, log=lines.append)
    # Without the own camera and the junk image, the distractor is first and the answer second.
    assert found["mAP"] == pytest.approx(0.5)
    assert (found["num_gallery"], found["num_skipped"]) == (4, 1)
    assert lines[0].startswith("data: Market-1501 tree")
    assert any("identity and camera counts neither" in line for line in lines)


def test_figures_equal_those_of_a_loop_over_the_sorted_gallery(several: DataSet) -> None:
    result = evaluate(COLOUR, several, seed=5)
    average_precisions = []
    first_is_relevant = []
    rows = similarities(several.query, several.gallery)
    for row, label in zip(rows, several.query.labels, strict=True):
        relevant = several.gallery.labels[np.argsort(-row, kind="stable")] == label
        ranks = np.flatnonzero(relevant) + 1
        precisions = [number / rank for number, rank in enumerate(ranks, start=1)]
        average_precisions.append(np.mean(precisions))
        first_is_relevant.append(float(relevant[0]))
    assert result["mAP"] == pytest.approx(np.mean(average_precisions), abs=1e-6)
    assert result["recall_at_1"] == pytest.approx(np.mean(first_is_relevant))
    assert (result["num_queries"], result["num_gallery"], result["num_skipped"]) == (6, 18, 0)
    assert result["mAP_ci95"][0] <= result["mAP"] <= result["mAP_ci95"][1]
    assert (result["model"], result["data"], result["seed"]) == ("colour", "products", 5)
    assert result["mean_last_rank"] == result.figures["metrics"]["mean_last_rank"]
    assert result.plain is result.final and json.loads(json.dumps(result.figures)) == result.figures
    with pytest.raises(KeyError):
        result["no such figure"]


def test_data_is_a_data_set_or_a_path_with_an_optional_name(
    several: DataSet, products: Path
) -> None:
    assert evaluate(COLOUR, products)["data"] == str(products)
    assert evaluate(COLOUR, str(products), data_name="mine")["data"] == "mine"
    assert evaluate(COLOUR, several, data_name="mine")["mAP"] == evaluate(COLOUR, several)["mAP"]


def test_evaluate_with_a_chain_returns_both_measurements(several: DataSet) -> None:
    lines: list[str] = []
    result = evaluate(COLOUR, several, request=Request(chains=(CHAIN,)), log=lines.append)
    plain = evaluate(COLOUR, several)
    assert result.plain.figures("products", 0) == plain.figures
    assert result["model"] == "colour + aqe:1@0" and result.final is not result.plain
    assert result.final.ranking.provenance.endswith("aqe:1@0, searched again (6 of 6 queries)")
    assert lines[-1] == f"ranking: {result.final.ranking.provenance}"


def test_chain_of_the_request_replaces_that_of_the_model(several: DataSet) -> None:
    model = dataclasses.replace(COLOUR, ranking="aqe:1")
    assert evaluate(model, several)["model"] == "colour + aqe:1@0"
    assert evaluate(model, several, request=Request(chains=((),)))["model"] == "colour"
    assert evaluate(model, several, request=Request(chains=None))["model"] == "colour + aqe:1@0"


def test_copies_of_the_request_replace_those_of_the_model(several: DataSet) -> None:
    half = Embedder("left half", SIZE_PX, "v3", lambda images: mean_colour(images[:, :, :16]))
    own = dataclasses.replace(half, test_time=schema.TestTime(("mirror",), queries_only=True))
    asked = Request(test_time=own.test_time)
    none = Request(test_time=schema.TestTime())
    plain = evaluate(half, several)["mAP"]
    copies = evaluate(own, several)["mAP"]
    assert plain != copies == evaluate(half, several, request=asked)["mAP"]
    assert evaluate(own, several, request=none)["mAP"] == plain


def test_unreadable_images_are_counted_and_named(tmp_path: Path) -> None:
    config = DrawConfig(
        num_classes=2,
        num_train=4,
        num_queries=2,
        num_gallery=10,
        image_size_px=SIZE_PX,
    )
    data = load_dataset(draw_dataset(tmp_path / "products", config, progress=False))
    Path(data.gallery.paths[0]).write_text("no image")
    result = evaluate(COLOUR, data)
    assert result["num_skipped"] == 1 and result["num_gallery"] == 9
    assert result["skipped"][0][0] == str(data.gallery.paths[0])


def test_figures_by_group_equal_those_of_each_group_alone(several: DataSet) -> None:
    groups = np.array(["a", "b", "a", "b", "a", "b"])
    grouped = dataclasses.replace(several, query=dataclasses.replace(several.query, groups=groups))
    result = evaluate(COLOUR, grouped)
    parts = {
        name: evaluate(
            COLOUR,
            dataclasses.replace(several, query=several.query.take(groups == name)),
        )
        for name in ("a", "b")
    }
    for name, part in parts.items():
        assert result["groups"][name]["num_queries"] == 3
        assert result["groups"][name]["mAP"] == pytest.approx(part["mAP"])
    assert "groups" not in parts["a"].figures


@pytest.mark.parametrize(
    ("groups", "expected"),
    [(["", "b", "", "b", " ", "b"], {"b": 3}), ([""] * 6, None), (["a"] * 6, {"a": 6})],
)
def test_queries_with_an_empty_group_belong_to_no_group(
    several: DataSet, groups: list[str], expected: dict[str, int] | None
) -> None:
    query = dataclasses.replace(several.query, groups=np.array(groups))
    figures = evaluate(COLOUR, dataclasses.replace(several, query=query)).figures
    if expected is None:
        assert "groups" not in figures
    else:
        sizes = {name: part["num_queries"] for name, part in figures["groups"].items()}
        assert sizes == expected


def test_ranking_too_large_for_memory_is_scored_fully_and_cut(
    several: DataSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = evaluate(COLOUR, several)
    monkeypatch.setattr("delf_ext.pipeline.PLACES_IN_MEMORY", 10)
    monkeypatch.setattr("delf_ext.pipeline.KEPT_PER_QUERY", 5)
    cut = evaluate(COLOUR, several)
    assert cut.figures == plain.figures and cut.plain.ranking.rows.shape == (6, 5)


def without_labels(images: ImageList, rows: list[int], label: int) -> ImageList:
    labels = images.labels.copy()
    labels[rows] = label
    return dataclasses.replace(images, labels=labels)


@pytest.mark.parametrize("chain", [(), CHAIN])
def test_gallery_images_without_a_label_take_places_as_those_of_another_class(
    several: DataSet, chain: Any
) -> None:
    lines: list[str] = []
    distractors = [0, 3, 7, 12, 17]
    request = Request(chains=(chain,))
    results = []
    for label in (NO_LABEL, 3):
        gallery = without_labels(several.gallery, distractors, label)
        class_names = (*several.class_names, "other", "distractor")
        data = dataclasses.replace(several, gallery=gallery, class_names=class_names)
        results.append(evaluate(COLOUR, data, request=request, log=lines.append))
    unlabelled, labelled = results
    assert unlabelled["num_gallery"] == len(several.gallery) == 18
    assert unlabelled["metrics"] == labelled["metrics"] and 0 < unlabelled["mAP"] < 1
    assert (unlabelled["num_gallery_without_label"], labelled["num_gallery_without_label"]) == (
        5,
        0,
    )
    places = "they stay in the rankings and are never right"
    assert lines.count(f"5 of 18 gallery images have no label: {places}") == 1


def test_queries_without_a_label_are_counted_but_not_scored(several: DataSet) -> None:
    lines: list[str] = []
    query = without_labels(several.query, [1, 4], NO_LABEL)
    data = dataclasses.replace(several, query=query)
    result = evaluate(COLOUR, data, log=lines.append)
    scored = evaluate(COLOUR, dataclasses.replace(several, query=query.labelled()))
    assert (result["num_queries"], result["num_queries_without_label"]) == (4, 2)
    for name in ("mAP", "mAP_ci95", "recall_at_1"):
        assert result[name] == scored[name]
    assert "2 of 6 queries have no label: they are not scored" in lines


def test_labels_that_queries_and_gallery_do_not_share_are_shown_before_the_work(
    several: DataSet,
) -> None:
    count = len(several.gallery)
    gallery = without_labels(several.gallery, list(range(count)), len(several.class_names))
    class_names = (*several.class_names, "p-01")
    data = dataclasses.replace(several, gallery=gallery, class_names=class_names)
    first = several.class_names[several.query.labels[0]]
    message = refusal(lambda: evaluate(COLOUR, data))
    assert message.startswith("none of the 6 queries has another photograph with its label")
    assert f"(a query has {first!r}, a gallery image has 'p-01')" in message


def test_data_without_labels_is_refused_unless_labels_are_optional(several: DataSet) -> None:
    query = dataclasses.replace(several.query, labels=None)
    data = dataclasses.replace(several, query=query)
    assert "labels" in refusal(lambda: evaluate(COLOUR, data))
    unlabelled = measure(COLOUR, query, several.gallery, labelled=False)
    assert unlabelled.ranking.rows.shape == (6, 18)


def test_images_not_embedded_in_time_are_logged(several: DataSet) -> None:
    # Each call of the clock is one second later.
    clock = iter([0.0, *np.arange(1000.0)])
    lines: list[str] = []
    deadline = Deadline(4.5, lambda: next(clock))
    result = measure(COLOUR, several.query, several.gallery, 6, deadline=deadline, log=lines.append)
    late = result.evaluated.num_skipped
    assert lines == [
        f"time budget: {late} images were not embedded in time; all figures are of the others"
    ]
    assert 0 < late < 18 and len(result.retrieval.gallery) == 18 - late
    with pytest.raises(TimeoutError, match="no time left to embed the first of 6 images"):
        measure(COLOUR, several.query, several.gallery, deadline=Deadline(0.0))


def test_geometric_step_without_a_folder_is_refused(several: DataSet) -> None:
    request = Request(chains=(parse_chain("geometric:2"),))
    message = (
        "the geometric step stores local features: pass a folder (--out=FOLDER or --run_dir=RUN)."
    )
    assert refusal(lambda: evaluate(COLOUR, several, request=request)) == message
    assert refusal(lambda: compare([COLOUR], several, request=request)) == message


# --- lists to measure on


def held_back(model: Embedder, validation: schema.Validation, seed: int, *names: str) -> Embedder:
    return dataclasses.replace(model, held_back=HeldBack(validation, seed, names))


def test_opened_model_knows_what_its_run_held_back(trained: Any) -> None:
    facts = read_run(trained.run_dir).facts
    held = open_model(trained.run_dir).held_back
    assert held.seed == facts.seed and held.names == facts.held_out and len(held.names) > 0
    assert isinstance(held.validation, schema.ClassBlock)


def test_common_lists_logs_the_lists_of_each_model(
    tiny: Recipe, only_train: DataSet, data: DataSet
) -> None:
    assert tiny.validation is not None
    model = held_back(COLOUR, tiny.validation, 3)
    lines: list[str] = []
    query, gallery = common_lists(only_train, [model], lines.append)
    expected = split(only_train.train, only_train, tiny.validation, seed=3)
    assert query.ids.tolist() == expected.query.ids.tolist()
    assert gallery.ids.tolist() == expected.gallery.ids.tolist()
    common_lists(data, [COLOUR], lines.append)
    own = f"{len(query)} queries in a gallery of {len(gallery)}"
    assert lines == [
        f"colour: {own}: dev split (block, 0.34 of the classes)",
        "colour: 3 queries in a gallery of 9: queries and gallery of the data",
    ]


def test_evaluation_uses_only_images_that_the_run_held_back(
    tiny: Recipe,
    only_train: DataSet,
    tmp_path: Path,
) -> None:
    """An unreadable file or a limit on the images must not move images into the training set."""
    broken = tmp_path / "broken.jpg"
    broken.write_text("no image")
    paths = only_train.train.paths.tolist()
    paths[5] = str(broken)
    images = dataclasses.replace(only_train.train, paths=np.array(paths))
    data = dataclasses.replace(only_train, train=images)
    recipe = dataclasses.replace(tiny, validation=schema.StratifiedFolds(100, 3, 1))
    train(
        recipe,
        data,
        tmp_path / "run",
        settings=Settings(seed=3, mixed_precision="off", max_images=20),
    )
    run = read_run(tmp_path / "run")
    result = evaluate(open_model(tmp_path / "run", Runtime(mixed_precision="off")), data)
    assert set(result.plain.retrieval.query.ids) == set(run.facts.held_out)


def test_measure_reranked_does_not_change_the_plain_measurement(several: DataSet) -> None:
    plain = measure(COLOUR, several.query, several.gallery)
    before = plain.ranking
    better = measure_reranked(
        plain, Reranker(Request(chains=(CHAIN,)), several.gallery, None), CHAIN
    )
    assert plain.ranking is before and better.retrieval is plain.retrieval
    assert better.evaluated.name == "colour + aqe:1@0"


def test_failed_embeddings_count_and_are_named_in_figures_and_log(several: DataSet) -> None:
    def embed(images: np.ndarray) -> np.ndarray:
        vectors = mean_colour(images)
        return np.where(np.isin(vectors[:, :1], bad), 0, vectors)

    bad = mean_colour(load_image(several.query.paths[0], SIZE_PX)[None])[:, 0]
    lines: list[str] = []
    model = Embedder("partly", SIZE_PX, "v9", embed)
    result = evaluate(model, several, request=Request(chains=(CHAIN,)), log=lines.append)
    whole = evaluate(COLOUR, several, request=Request(chains=(CHAIN,)))
    for failed, good in ((result.plain, whole.plain), (result.final, whole.final)):
        expected = average_precisions(good.evaluated.hits)
        expected[0] = 0
        assert np.array_equal(average_precisions(failed.evaluated.hits), expected)
    assert result["num_queries"] == len(several.query) and result["num_skipped"] == 0
    assert (result["num_failed_queries"], result["num_failed_gallery"]) == (1, 0)
    note = f"1 of {len(several.query)} queries: the model's embedding is zero or not finite, so "
    assert sum(line.startswith(note) for line in lines) == 1
