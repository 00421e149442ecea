"""Test the reduction of a recipe: fitted after training, bound to weights, applied when opened."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_io.checkpoint_folder import CheckpointFolder
from data_io.datasets import DataSet
from data_io.files.artifacts import read_json
from data_io.records import ImageList
from delf_ext.app import training
from delf_ext.app.adaptation import adapt
from delf_ext.app.data import Split
from delf_ext.app.ensemble_training import _is_finished, _mark_finished
from delf_ext.app.evaluation import evaluate
from delf_ext.app.run_reduction import Reducing, fit_run_reduction, require_fitting
from delf_ext.app.trainable import require_reduction
from delf_ext.app.training import resume, train
from delf_ext.config import UsageError
from delf_ext.features.embedder import Adapted, Embedder
from delf_ext.features.extraction import extract_global
from delf_ext.features.reductions.build import fit_reduction
from delf_ext.recipes import schema
from delf_ext.recipes.codec import with_settings
from delf_ext.recipes.schema import Recipe
from delf_ext.runs.fitted_reduction import read_fitted, write_fitted
from delf_ext.runs.opening import open_model
from delf_ext.runs.records import PROJECTION, Facts, Run
from delf_ext.runs.run_directory import read_run
from delf_ext.runs.sources import RunSource, Runtime
from tests.delf_ext.app.conftest import SETTINGS

FLOAT32 = Runtime(mixed_precision="off")
COPIES = '{"type": "TestTime", "copies": ["mirror"]}'


class Killed(BaseException):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def reduced(tiny: Recipe, products: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Train with LDA: killed before the fit, opened, then resumed."""
    run_dir = tmp_path_factory.mktemp("reduced") / "run"
    recipe = with_settings(tiny, ["reduction=Lda", f"test_time={COPIES}"])
    lines: list[str] = []

    def killed(work: Reducing) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit_run_reduction", killed)
        with pytest.raises(Killed):
            train(recipe, products, run_dir, settings=SETTINGS)
    opened = open_model(RunSource(str(run_dir)), FLOAT32, log=lines.append)
    resume(run_dir, log=lines.append)
    return run_dir, opened, lines


def copied(run_dir: Path, to: Path) -> Path:
    return Path(shutil.copytree(run_dir, to))


def test_run_without_its_projection_is_plain_and_resume_fits_it(reduced: Any) -> None:
    run_dir, opened, lines = reduced
    assert isinstance(opened, Embedder)
    assert [line for line in lines if "the reduction Lda is not fitted yet" in line]
    assert (run_dir / PROJECTION).is_file()
    model = open_model(RunSource(str(run_dir)), FLOAT32)
    assert isinstance(model, Adapted) and model.digest != opened.digest
    assert model.test_time.copies == ("mirror",) and model.held_back == opened.held_back
    assert [line for line in lines if "without reduction" in line and "Lda" in line]
    figures = read_json(run_dir / "metrics" / "reduction.json")
    assert [row["name"] for row in figures["rows"]] == ["without reduction", "Lda (shrinkage 0.03)"]


def test_projection_is_fitted_on_the_training_images_with_copies(
    reduced: Any, data: DataSet
) -> None:
    run_dir, opened, _ = reduced
    held_out = read_run(run_dir).facts.held_out
    names = np.array(data.class_names)[data.train.known_labels("test")]
    images = data.train.take(~np.isin(names, held_out))
    base = Adapted("base", opened, None, schema.TestTime(("mirror",)))
    features, _ = extract_global(base, images)
    labels = images.known_labels("test")
    expected = fit_reduction(schema.Lda(), features.embeddings, labels)
    fitted = read_fitted(run_dir)
    assert fitted is not None and fitted.reduction == schema.Lda()
    assert fitted.projection is not None
    assert fitted.projection.dims == len(np.unique(labels)) - 1
    embedded = [one(features.embeddings) for one in (fitted.projection, expected)]
    np.testing.assert_allclose(*embedded, atol=1e-3)


def test_reduction_is_not_fitted_twice(reduced: Any, tmp_path: Path) -> None:
    run_dir = copied(reduced[0], tmp_path / "run")
    before = (run_dir / PROJECTION).stat().st_mtime_ns
    lines: list[str] = []
    resume(run_dir, log=lines.append)
    assert (run_dir / PROJECTION).stat().st_mtime_ns == before
    # A damaged one is refused when the run is opened, and fitted again.
    (run_dir / PROJECTION).write_bytes(b"PK damaged")
    with pytest.raises(ValueError, match=r"projection\.npz: not a fitted reduction .*--resume"):
        open_model(RunSource(str(run_dir)), FLOAT32)
    resume(run_dir, log=lines.append)
    assert isinstance(open_model(RunSource(str(run_dir)), FLOAT32), Adapted)


def test_a_member_without_its_reduction_is_not_finished(reduced: Any, tmp_path: Path) -> None:
    run_dir = copied(reduced[0], tmp_path / "run")
    _mark_finished(run_dir, "data")
    assert _is_finished(run_dir, "data", None) and not _is_finished(run_dir, "others", None)
    fitted = read_fitted(run_dir)
    assert fitted is not None
    write_fitted(run_dir, dataclasses.replace(fitted, fitted_on="other weights"))
    assert not _is_finished(run_dir, "data", None)
    for content in (b"PK damaged", None):
        (run_dir / PROJECTION).unlink()
        if content is not None:
            (run_dir / PROJECTION).write_bytes(content)
        assert not _is_finished(run_dir, "data", None)


def test_more_epochs_make_the_projection_stale_and_refit_it(
    reduced: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = copied(reduced[0], tmp_path / "run")
    # Any later weights count as better.
    CheckpointFolder(run_dir / "checkpoint", "best").forget_facts()
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit_run_reduction", lambda work: None)
        resume(run_dir, epochs=2)
    lines: list[str] = []
    plain = open_model(RunSource(str(run_dir)), FLOAT32, log=lines.append)
    assert isinstance(plain, Embedder)
    assert "was fitted on other weights or images" in lines[0] and len(lines) == 1
    resume(run_dir)
    model = open_model(RunSource(str(run_dir)), FLOAT32)
    assert isinstance(model, Adapted) and model.base.digest == plain.digest


def test_evaluation_uses_the_stored_embeddings_of_the_fit(
    reduced: Any, only_train: DataSet
) -> None:
    lines: list[str] = []
    model = open_model(RunSource(str(reduced[0])), FLOAT32, log=lines.append)
    assert isinstance(model, Adapted) and isinstance(model.base, Embedder)

    def refuse(images: np.ndarray) -> np.ndarray:
        raise AssertionError("embedded again")

    base = dataclasses.replace(model.base, embed=refuse)
    evaluation = evaluate(dataclasses.replace(model, base=base), only_train)
    assert evaluation.plain.evaluated.name == model.name


def test_adapt_uses_the_network_without_its_reduction(
    reduced: Any, data: DataSet, tmp_path: Path
) -> None:
    run_dir, opened, _ = reduced
    result = adapt(str(run_dir), data, "seen_classes", tmp_path / "head", runtime=FLOAT32)
    model = open_model(result.source, FLOAT32)
    assert isinstance(model, Adapted) and isinstance(model.base, Embedder)
    assert model.base.digest == opened.digest


# --- without TensorFlow: an embedder of class colours and noise


def colours(images: np.ndarray) -> np.ndarray:
    return images[:, ::4, ::4].reshape(len(images), -1).astype(np.float32) - 100.0


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> ImageList:
    """Write 8 classes of 6 images; noise along one direction is larger than the class colours."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("noisy")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 6)
    of_class = rng.normal(0, 12, (8, 8, 8, 3))
    noise = rng.normal(0, 1, (8, 8, 3))
    paths = []
    for row, label in enumerate(labels):
        pixels = 128 + of_class[label] + rng.normal(0, 40) * noise + rng.normal(0, 4, (8, 8, 3))
        paths.append(str(folder / f"{row}.png"))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(paths[-1])
    ids = np.array([f"{row:02d}" for row in range(len(labels))])
    return ImageList(ids, np.array(paths), labels)


def work_of(
    images: ImageList, config: schema.Reduction, path: Path, is_dev: np.ndarray, lines: list[str]
) -> Reducing:
    model = Embedder("colours", 8, "digest", colours)
    train, dev = images.take(~is_dev), images.take(is_dev)
    is_query = np.arange(len(dev)) % 3 == 0
    classes = set(train.known_labels("test")) & set(dev.known_labels("test"))
    query, gallery = (dev, train) if classes else (dev.take(is_query), dev.take(~is_query))
    run = Run(path, "recipe", {}, Facts())
    return Reducing(run, config, model, "digest", Split(train, query, gallery), 0, lines.append)


@pytest.mark.parametrize("side", ["classes", "photographs"])
def test_chosen_reduction_is_judged_on_the_dev_split(
    noisy: ImageList, tmp_path: Path, side: str
) -> None:
    rows = np.arange(len(noisy))
    is_dev = rows >= 24 if side == "classes" else rows % 6 < 2
    lines: list[str] = []
    config = schema.Chosen(("WithinClassWhitening", "Pca"))
    fit_run_reduction(work_of(noisy, config, tmp_path, is_dev, lines))
    fitted = read_fitted(tmp_path)
    assert fitted is not None and isinstance(fitted.reduction, schema.WithinClassWhitening)
    num_queries = 8 if side == "classes" else 16
    assert f"choosing a reduction on {num_queries} dev queries" in lines[0]
    assert "PCA (" in lines[1] and "LDA" not in lines[1]
    assert lines[2].startswith("chosen: within-class whitening")
    rows_of = read_json(tmp_path / "metrics" / "reduction.json")["rows"]
    assert rows_of[2]["difference"]["mean"] > 0.05


def test_copies_of_dev_queries_and_of_training_images_are_not_counted(
    noisy: ImageList, tmp_path: Path
) -> None:
    paths = noisy.paths.copy()
    is_dev = np.arange(len(noisy)) % 6 < 2
    # A dev query twice, and a dev query that is a training image.
    paths[1] = paths[0]
    paths[6] = paths[8]
    lines: list[str] = []
    images = dataclasses.replace(noisy, paths=paths)
    fit_run_reduction(work_of(images, schema.Chosen(("Lda",)), tmp_path, is_dev, lines))
    assert lines[0].startswith("choosing a reduction on 14 dev queries")


def test_choice_of_no_reduction_is_written(noisy: ImageList, tmp_path: Path) -> None:
    labels = np.random.default_rng(1).permutation(noisy.known_labels("test"))
    mixed = dataclasses.replace(noisy, labels=labels)
    lines: list[str] = []
    is_dev = np.arange(len(noisy)) % 6 < 2
    work = work_of(mixed, schema.Chosen(("Lda",)), tmp_path, is_dev, lines)
    fit_run_reduction(work)
    fitted = read_fitted(tmp_path)
    assert fitted is not None and fitted.reduction is None and fitted.projection is None
    assert lines[-1].startswith("chosen: no head")
    num_lines = len(lines)
    fit_run_reduction(work)
    assert len(lines) == num_lines


def test_fewer_dimensions_than_asked_for_are_kept(noisy: ImageList, tmp_path: Path) -> None:
    lines: list[str] = []
    is_dev = np.arange(len(noisy)) >= 42
    same = dataclasses.replace(
        work_of(noisy, schema.Pca(40), tmp_path, is_dev, lines),
        model=Embedder("means", 8, "means", lambda images: colours(images)[:, :5]),
    )
    fit_run_reduction(same)
    assert lines[0] == (
        "reduction Pca: 40 dimensions were asked for, but the embeddings span 5: these are kept"
    )


def test_bad_reductions_are_refused_before_training(tiny: Recipe) -> None:
    with pytest.raises(UsageError, match="4 training classes span at most 3 dim.* Received dims=4"):
        require_fitting(schema.Lda(dims=4), 40, 4, 5)
    with pytest.raises(UsageError, match="40 training images span at most 39 dimensions"):
        require_fitting(schema.Pca(dims=40), 40, 4, 5)
    with pytest.raises(ValueError, match="Chosen needs dev queries"):
        require_fitting(schema.Chosen(), 40, 4, 0)
    require_fitting(schema.Lda(dims=3), 40, 4, 0)
    for setting, message in (
        ("reduction=EncoderDecoder", "EncoderDecoder is not built yet. Built: Lda, Pca"),
        ("reduction=Chosen", "chosen on the dev split, but validation is None. Give"),
    ):
        recipe = with_settings(tiny, ["validation=None", setting])
        with pytest.raises(UsageError, match=message):
            require_reduction(recipe)
    with pytest.raises(UsageError, match="Chosen.kinds.0 must be Pca"):
        schema.Chosen(("PCA",))  # type: ignore[arg-type]
