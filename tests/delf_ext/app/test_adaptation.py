"""Test heads from the embeddings to the run: what is chosen, what is refused, how runs open."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.datasets import DataSet, load_dataset
from data_io.photographs import Photographs
from delf_ext.app import adaptation
from delf_ext.app.adaptation import Adaptation, adapt
from delf_ext.app.comparison import compare
from delf_ext.app.evaluation import evaluate
from delf_ext.app.labelled_embeddings import labelled_images
from delf_ext.app.local_features import _of_base
from delf_ext.app.local_settings import LocalSettings
from delf_ext.app.searching import search
from delf_ext.app.trained_on import TrainedPhotographs, TrainedQueries
from delf_ext.config import UsageError
from delf_ext.features.embedder import Adapted, Ensemble
from delf_ext.features.extraction import extract_global
from delf_ext.recipes import schema
from delf_ext.recipes.adapted_parts import AdaptedRecipe, Base, CheckpointBase, OnnxBase, RunBase
from delf_ext.runs.adapted_run import Head, write_adapted
from delf_ext.runs.opening import open_model
from delf_ext.runs.records import Facts
from delf_ext.runs.sources import EnsembleSource, OnnxSource, RunSource

NUM_CLASSES = 8


def draw(folder: Path, per_class: int, seed: int, num_classes: int = NUM_CLASSES) -> Path:
    """Write photographs whose class is their blue; they also differ from red to green."""
    rng = np.random.default_rng(seed)
    for label in range(num_classes):
        parent = folder / f"class{label}"
        parent.mkdir(parents=True)
        for number in range(per_class):
            pixels = np.zeros((8, 8, 3), np.uint8)
            change = rng.integers(-80, 80)
            pixels[..., 0] = 128 + change
            pixels[..., 1] = 128 - change
            pixels[..., 2] = 60 + 16 * label + rng.integers(0, 3)
            pixels[0, 0] = (number, seed, label)
            Image.fromarray(pixels).save(parent / f"{seed}-{number}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write a folder with train/, query/ and gallery/ of the same classes."""
    for name, per_class, seed in (("train", 10, 1), ("query", 2, 2), ("gallery", 3, 3)):
        draw(tmp_path / "photos" / name, per_class, seed)
    return tmp_path / "photos"


@pytest.fixture
def adapted(onnx_model: Path, photos: Path, tmp_path: Path) -> Adaptation:
    return adapt(onnx_model, photos, "seen_classes", tmp_path / "runs" / "head")


def test_a_head_is_chosen_fitted_and_better_in_every_use(
    adapted: Adaptation, onnx_model: Path, photos: Path
) -> None:
    table = str(adapted)
    assert adapted.choice.kind in ("within-class whitening", "LDA")
    assert "no head" in table and f"chosen: {adapted.choice.kind} (shrinkage" in table
    model = open_model(adapted.source)
    assert isinstance(model, Adapted)
    # Beside its base; the head is clearly better.
    comparison = compare([open_model(onnx_model), model], photos)
    difference = comparison.rows[1].difference
    assert difference is not None and difference.mean > 0.1 and difference.p_value < 0.01
    figures = json.loads((adapted.run.path / "metrics" / "adapt.json").read_text())
    assert figures["chosen"] == adapted.choice.kind and figures["reduction"]["type"]
    assert {row["name"] for row in figures["rows"]} >= {"no head", "PCA (dims 64)"}


def test_the_same_seed_gives_the_same_head(
    adapted: Adaptation, onnx_model: Path, photos: Path, tmp_path: Path
) -> None:
    again = adapt(onnx_model, photos, "seen_classes", tmp_path / "again")
    assert open_model(again.source).digest == open_model(adapted.source).digest
    assert again.choice.tried == adapted.choice.tried


def test_photographs_that_the_head_was_fitted_on_are_no_queries(
    adapted: Adaptation, photos: Path
) -> None:
    model = open_model(adapted.source)
    with pytest.raises(TrainedPhotographs, match="80 of 80 query photographs were trained on"):
        evaluate(model, photos / "train")
    assert evaluate(model, photos)["num_queries"] == 2 * NUM_CLASSES


def test_copies_and_concatenation_are_part_of_the_run(
    onnx_model: Path, photos: Path, tmp_path: Path
) -> None:
    base = OnnxSource(str(onnx_model))
    result = adapt(
        EnsembleSource((base, base)),
        photos,
        "unseen_classes",
        tmp_path / "head",
        copies=("mirror",),
    )
    model = open_model(result.source)
    assert isinstance(model, Adapted) and model.test_time.copies == ("mirror",)
    assert evaluate(model, photos)["mAP"] > 0.5


def test_a_run_opens_after_it_was_moved_with_its_base(
    adapted: Adaptation, onnx_model: Path, tmp_path: Path
) -> None:
    digest = open_model(adapted.source).digest
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "runs", moved / "runs")
    for suffix in ("", ".json"):
        shutil.move(f"{onnx_model}{suffix}", moved)
    assert open_model(moved / "runs" / "head").digest == digest
    with pytest.raises(ValueError, match=r"mean.onnx is not there. Put it back, .* adapt` again"):
        open_model(adapted.source)


def test_another_base_is_refused(adapted: Adaptation, onnx_model: Path) -> None:
    sidecar = Path(f"{onnx_model}.json")
    sidecar.write_text(sidecar.read_text().replace("0..1", "-1..1"))
    with pytest.raises(ValueError, match=r"base model has changed .* run `mandoo adapt` again"):
        open_model(adapted.source)


@pytest.mark.parametrize("damage", ["projection", "recipe", "another kind of recipe"])
def test_a_damaged_run_names_the_file(damage: str, adapted: Adaptation) -> None:
    path = adapted.run.path
    file = path / ("projection.npz" if damage == "projection" else "recipe.json")
    if damage == "projection":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "recipe":
        file.write_text(file.read_text().replace("base_digest", "digest"))
    else:
        stored = json.loads(file.read_text())
        file.write_text(json.dumps(stored | {"recipe": {"type": "Lda"}}))
    with pytest.raises(ValueError, match=f"{file.name}: "):
        open_model(adapted.source)


def test_no_head_is_written_if_none_is_better(onnx_model: Path, tmp_path: Path) -> None:
    """The labels have nothing to do with the photographs."""
    drawn = load_dataset(draw(tmp_path / "photos", 6, 1))
    rng = np.random.default_rng(0)
    labels = rng.permutation(drawn.train.labels)
    data = dataclasses.replace(drawn, train=dataclasses.replace(drawn.train, labels=labels))
    result = adapt(onnx_model, data, "seen_classes", tmp_path / "head")
    assert result.choice.reduction is None and "chosen: no head. The best one, " in str(result)
    model = open_model(result.source)
    base = open_model(onnx_model)
    assert model.digest == base.digest
    # Nothing was fitted, so every photograph may be a query.
    assert evaluate(model, data)["mAP"] == evaluate(base, data)["mAP"]


def test_failed_and_doubled_photographs_are_left_out(
    onnx_model: Path, photos: Path, tmp_path: Path
) -> None:
    train = photos / "train" / "class0"
    shutil.copy(train / "1-0.png", train / "copy.png")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(train / "black.png")
    (train / "broken.png").write_bytes((train / "1-0.png").read_bytes()[:45])
    lines: list[str] = []
    result = adapt(onnx_model, photos, "seen_classes", tmp_path / "head", log=lines.append)
    assert result.num_images == 80
    text = "\n".join(lines)
    assert "left out: 1 images: the model's embedding is zero" in text
    assert "left out: 1 images are copies" in text and "1 files cannot be read" in text


def only_train(data: DataSet, labels: list[int]) -> DataSet:
    rows = np.arange(len(labels))
    train = dataclasses.replace(data.train.take(rows), labels=np.array(labels))
    return dataclasses.replace(data, train=train)


@pytest.mark.parametrize(
    ("labels", "question", "message"),
    [
        ([0, 0, 0, 0], "seen_classes", "at least 2 products .* Received 1"),
        ([0, 1, 2, 3], "seen_classes", "each of the 4 classes has one photograph"),
        ([0, 0, 1, 1, 2, 2], "unseen_classes", "at least 4 classes with two .* Received 3"),
        ([-1, -1], "seen_classes", "no labelled training image"),
    ],
)
def test_too_little_data_is_one_clear_line(
    labels: list[int],
    question: str,
    message: str,
    onnx_model: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = only_train(load_dataset(photos), labels)
    # It comes before the model is opened.
    monkeypatch.setattr(adaptation, "open_model", None)
    with pytest.raises(ValueError, match=message) as caught:
        adapt(onnx_model, data, question, tmp_path / "head")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "head").exists()


def test_the_order_of_the_images_does_not_matter(photos: Path) -> None:
    data = load_dataset(photos)
    turned = dataclasses.replace(data, train=data.train.take(np.arange(len(data.train))[::-1]))
    images, others = labelled_images(data), labelled_images(turned)
    np.testing.assert_array_equal(images.ids, others.ids)
    np.testing.assert_array_equal(images.labels, others.labels)


@pytest.mark.filterwarnings("error")
def test_very_few_photographs_are_enough(onnx_model: Path, photos: Path, tmp_path: Path) -> None:
    data = only_train(load_dataset(photos), [0, 0, 1, 1])
    result = adapt(onnx_model, data, "seen_classes", tmp_path / "head")
    assert "warning: intervals over 4 queries" in str(result)


def test_model_with_a_head_is_a_member_of_an_ensemble(
    adapted: Adaptation, onnx_model: Path, photos: Path, tmp_path: Path
) -> None:
    members = (OnnxSource(str(onnx_model)), RunSource(str(adapted.run.path)))
    ensemble = open_model(EnsembleSource(members))
    assert isinstance(ensemble, Ensemble) and isinstance(ensemble.members[1], Adapted)
    images = load_dataset(photos).query
    features, _ = extract_global(ensemble, images)
    parts = [extract_global(open_model(member), images)[0].embeddings for member in members]
    expected = np.concatenate(parts, axis=1) / np.sqrt(2)
    np.testing.assert_allclose(features.embeddings, expected, atol=1e-6)
    # A head is fitted on such an ensemble too.
    head = adapt(EnsembleSource(members), photos, "seen_classes", tmp_path / "head")
    assert isinstance(open_model(head.source), Adapted)


def test_a_head_on_members_with_other_copies_is_bound_to_them(
    onnx_model: Path, photos: Path, tmp_path: Path
) -> None:
    plain = OnnxSource(str(onnx_model))
    member = adapt(onnx_model, photos, "seen_classes", tmp_path / "member", copies=("mirror",))
    pair = EnsembleSource((plain, RunSource(str(member.run.path))))
    head = adapt(pair, photos, "seen_classes", tmp_path / "head")
    model = open_model(head.source)
    assert isinstance(model, Adapted) and model.test_time is None
    images = load_dataset(photos).query
    parts = [extract_global(open_model(one), images)[0].embeddings for one in pair.members]
    expected = np.concatenate(parts, axis=1) / np.sqrt(2)
    if model.projection is not None:
        expected = model.projection(expected)
    for features in (
        extract_global(model, images)[0],
        search(model, images, images).retrieval.query_features,
    ):
        np.testing.assert_allclose(features.embeddings, expected, atol=1e-5)
    # The member embeds other copies now: the head was not fitted on such embeddings.
    recipe = member.run.path / "recipe.json"
    recipe.write_text(recipe.read_text().replace("mirror", "turn90"))
    with pytest.raises(ValueError, match="its base model has changed since the head was fitted"):
        open_model(head.source)


def test_a_head_on_a_head_and_a_second_run_in_a_folder_are_refused(
    adapted: Adaptation, onnx_model: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="has a head already: adapt the model"):
        adapt(adapted.source, photos, "seen_classes", tmp_path / "second")
    with pytest.raises(UsageError, match="holds a run already"):
        adapt(onnx_model, photos, "seen_classes", adapted.run.path)
    with pytest.raises(UsageError, match="pass --for=seen_classes .* or --for=unseen_classes"):
        adapt(onnx_model, photos, "both", tmp_path / "second")


def test_stored_embeddings_of_the_base_serve_its_heads(
    adapted: Adaptation, onnx_model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_dataset(photos)
    extract_global(open_model(onnx_model), data.query)

    def no_embedding(*_: object) -> None:
        raise AssertionError("an image was embedded again")

    monkeypatch.setattr("delf_ext.features.extraction.embed_readable", no_embedding)
    features, _ = extract_global(open_model(adapted.source), data.query)
    assert len(features) == 2 * NUM_CLASSES


def test_local_features_of_a_head_come_from_its_base(tmp_path: Path) -> None:
    trunk = schema.Trunk("vgg_16", end_point="conv5")

    def settings_for(base: Base, name: str) -> LocalSettings:
        recipe = AdaptedRecipe("head", base, "digest", None, "seen_classes")  # type: ignore[arg-type]
        run = write_adapted(tmp_path / name, Head(recipe, None, Facts(), Photographs()))
        return _of_base(LocalSettings(model=str(run.path)), run)

    checkpoint = settings_for(CheckpointBase("lite2", trunk, schema.Gem(), 64), "checkpoint")
    assert (checkpoint.model, checkpoint.trunk) == ("lite2", trunk)
    assert settings_for(RunBase("/runs/first"), "run").model == "/runs/first"
    with pytest.raises(UsageError, match="DELF needs one trunk, .* or --local_features=sift"):
        settings_for(OnnxBase("/net.onnx"), "onnx")


def test_few_photographs_of_each_product_hold_products_back(
    onnx_model: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    photos = draw(tmp_path / "photos", 2, 1, num_classes=12)
    adapt(onnx_model, photos, "seen_classes", tmp_path / "head", log=lines.append)
    assert any(line.endswith("products are held back instead") for line in lines)
    assert any("24 photographs of 12 classes, 2 folds" in line for line in lines)


@pytest.mark.parametrize("num_trained", [60, 80])
def test_a_trained_base_is_judged_on_the_photographs_it_has_not_seen(
    num_trained: int,
    onnx_model: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = load_dataset(photos).train.paths[:num_trained].tolist()
    found = TrainedQueries(photographs=tuple((path, "") for path in paths))
    monkeypatch.setattr("delf_ext.app.labelled_embeddings.trained_queries", lambda *_: found)
    lines: list[str] = []
    result = adapt(onnx_model, photos, "seen_classes", tmp_path / "head", log=lines.append)
    what = "only the others are queries" if num_trained < 80 else "the figures below are too high"
    start = f"the base model was trained on {num_trained} of these 80 photographs: {what}"
    assert any(line.startswith(start) for line in lines)
    assert result.choice.rows[0].num_queries == (80 - num_trained or 80)
