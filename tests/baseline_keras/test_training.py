from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from baseline_keras import training
from baseline_keras.features import extract, load_embedder
from baseline_keras.network import build_network, compile_network
from baseline_keras.run_directory import latest_checkpoint
from baseline_keras.training import ReplayedPlateau, load_checked, train
from data_io.datasets import DataSet
from data_io.files.artifacts import StaleArtifact
from delf_ext.runs.run_directory import read_run
from delf_ext.runs.training_lock import only_training
from delf_ext.training.finite import NotFinite

SMALL = {"batch_size": 4, "image_size": 16, "verbose": 0}
COLOURS = {"blue": (40, 40, 200), "red": (200, 40, 40)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw noisy red and blue images: 6 train, 1 query, 2 gallery per class; and a broken file."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("query", 1), ("gallery", 2)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(0, 30, (64, 64, 3)) + colour, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    (root / "gallery" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return root


@pytest.fixture(scope="module")
def dataset(photos: Path) -> DataSet:
    return load_checked(photos)


@pytest.fixture(scope="module")
def trained(dataset: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    train(dataset, run_dir, epochs=4, seed=3, **SMALL)
    return run_dir


def test_load_checked_skips_bad_files(dataset: DataSet):
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (12, 2, 4)
    assert [Path(path).name for path, _ in dataset.skipped] == ["broken.jpg"]


def history_of(run_dir: Path) -> dict[str, Any]:
    return json.loads((run_dir / "metrics" / "training.json").read_text())


def test_loss_falls_and_the_run_directory_is_complete(trained: Path):
    metrics = history_of(trained)
    assert metrics["loss"][-1] < 0.5 * metrics["loss"][0] and metrics["accuracy"][-1] == 1.0
    assert metrics["learning_rate"] == pytest.approx([4.5e-4] * 4)
    known = {"system": "keras_baseline", "epochs_done": 4, "num_train": 12, "num_skipped": 1}
    assert metrics.items() >= known.items()
    run = read_run(trained)
    assert run.kind == "keras_baseline"
    assert run.recipe == {"image_size": 16, "num_classes": 2, "epochs": 4, "batch_size": 4}
    assert run.facts.class_names == ("blue", "red") and run.facts.seed == 3
    files = [path for path in trained.rglob("*") if path.is_file()]
    names = sorted(path.relative_to(trained).as_posix() for path in files)
    events = [name for name in names if name.startswith("events.out.tfevents.")]
    assert len(events) == 1
    assert sorted(set(names) - set(events)) == [
        ".training",
        "checkpoint/epoch-4.data-00000-of-00001",
        "checkpoint/epoch-4.index",
        "checkpoint/epoch.json",
        "facts.json",
        "metrics/training.json",
        "photographs.json",
        "recipe.json",
    ]


def test_events_contain_each_epoch(trained: Path):
    (path,) = trained.glob("events.*")
    events = tf.compat.v1.train.summary_iterator(str(path))
    values = [(value.tag, event.step) for event in events for value in event.summary.value]
    assert [step for tag, step in values if tag == "epoch_loss"] == [0, 1, 2, 3]


def test_stored_network_finds_the_class_of_a_query(trained: Path, dataset: DataSet):
    embedder = load_embedder(trained)
    query = extract(embedder, dataset.query, quiet=True)
    gallery = extract(embedder, dataset.gallery, quiet=True)
    assert query.embeddings.shape == (2, 2) and query.digest == gallery.digest == embedder.digest
    nearest = np.argmax(query.embeddings @ gallery.embeddings.T, axis=1)
    assert np.array_equal(np.asarray(dataset.gallery.labels)[nearest], dataset.query.labels)


def test_same_seed_gives_the_same_history(trained: Path, dataset: DataSet, tmp_path: Path):
    before = history_of(trained)
    assert train(dataset, tmp_path / "again", epochs=4, seed=3, **SMALL) == before
    other = train(dataset, tmp_path / "other", epochs=1, seed=4, **SMALL)
    assert other["loss"][0] != before["loss"][0]


class Killed(BaseException):
    """Simulate kill -9: no code of the project catches this exception."""


def killed_in(function: Callable, after_calls: int, halfway: Callable | None = None) -> Callable:
    calls = 0

    def wrapper(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > after_calls:
            if halfway is not None:
                halfway(*args)
            raise Killed
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    "moment",
    ["before metrics", "between metrics and checkpoint", "inside the checkpoint"],
)
def test_killed_run_loses_at_most_one_epoch(
    dataset: DataSet,
    tmp_path: Path,
    monkeypatch,
    moment: str,
):
    def half_written(run_dir: Path, _: object, epochs_done: int) -> None:
        (run_dir / "checkpoint" / f"epoch-{epochs_done}.data-00000-of-00001").write_bytes(b"half")

    name = "write_history" if moment == "before metrics" else "save_checkpoint"
    halfway = half_written if moment == "inside the checkpoint" else None
    monkeypatch.setattr(training, name, killed_in(getattr(training, name), 2, halfway))
    with pytest.raises(Killed):
        train(dataset, tmp_path, epochs=4, **SMALL)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="already holds a run. Pass --resume"):
        train(dataset, tmp_path, epochs=4, **SMALL)
    before = history_of(tmp_path)
    metrics = train(dataset, tmp_path, epochs=4, resume=True, **SMALL)
    assert metrics["epochs_done"] == 4 and len(metrics["loss"]) == 4
    assert metrics["loss"][:2] == before["loss"][:2]
    # With new weights the loss would be high again.
    assert metrics["loss"][3] < 0.5 * metrics["loss"][0]
    last = latest_checkpoint(tmp_path)
    assert last is not None and last[1] == 4


def test_resume_keeps_optimizer_and_finished_run(trained: Path, dataset: DataSet):
    steps = "optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE"
    stored = tf.train.load_checkpoint(str(trained / "checkpoint" / "epoch-4"))
    assert stored.get_tensor(steps) == 12
    before = (trained / "metrics" / "training.json").read_bytes()
    # All epochs are done.
    train(dataset, trained, epochs=4, seed=3, resume=True, **SMALL)
    assert (trained / "metrics" / "training.json").read_bytes() == before
    assert not (trained / "features").exists(), "training must not store embeddings"


def test_resume_in_an_empty_directory_starts_a_run(dataset: DataSet, tmp_path: Path):
    assert train(dataset, tmp_path / "new", epochs=1, resume=True, **SMALL)["epochs_done"] == 1


def test_resume_refuses_other_settings(trained: Path, dataset: DataSet):
    with pytest.raises(
        ValueError, match="holds a run with other settings or classes .seed 3 became 5"
    ):
        train(dataset, trained, epochs=4, seed=5, resume=True, **SMALL)


def test_learning_rate_falls_on_a_plateau_also_across_a_resume():
    def rates(past: list[float], coming: list[float]) -> list[float]:
        network = build_network(2, 16)
        compile_network(network)
        # A rate from a checkpoint must be ignored.
        network.optimizer.learning_rate = 1.0
        plateau = ReplayedPlateau(past)
        plateau.set_model(network)
        plateau.on_train_begin()
        seen = []
        for epoch, accuracy in enumerate(coming):
            plateau.on_epoch_end(epoch, {"accuracy": accuracy})
            seen.append(float(network.optimizer.lr))
        return seen

    accuracies = [0.1, 0.3, 0.3, 0.3, 0.3, 0.2, 0.3, 0.29]
    # Epoch 1 is the best. After epochs 2, 3, 4 the rate is a tenth, after 5, 6, 7 a hundredth.
    expected = [4.5e-4] * 4 + [4.5e-5] * 3 + [4.5e-6]
    assert rates([], accuracies) == pytest.approx(expected)
    for cut in (1, 3, 5, 7):
        assert rates(accuracies[:cut], accuracies[cut:]) == pytest.approx(expected[cut:])


def test_only_classes_with_training_images_are_trained(dataset: DataSet, tmp_path: Path):
    wider = dataclasses.replace(
        dataset,
        class_names=("absent", "blue", "also absent", "red"),
        train=dataclasses.replace(dataset.train, labels=np.asarray(dataset.train.labels) * 2 + 1),
    )
    train(wider, tmp_path, epochs=1, **SMALL)
    assert read_run(tmp_path).facts.class_names == ("blue", "red")


def test_unusable_data_leave_no_run_directory(dataset: DataSet, tmp_path: Path):
    none = dataclasses.replace(dataset, train=dataset.train.take([]))
    with pytest.raises(ValueError, match="has no readable training image with a label"):
        train(none, tmp_path, epochs=1, **SMALL)
    one_class = dataclasses.replace(dataset, train=dataset.train.take([0, 1]))
    with pytest.raises(ValueError, match="needs at least two classes. Received 1"):
        train(one_class, tmp_path, epochs=1, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_named_in_one_line(dataset: DataSet, tmp_path: Path):
    paths = dataset.train.paths.copy()
    paths[3] = "gone.jpg"
    broken = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, paths=paths))
    with pytest.raises(
        ValueError,
        match=r"^training stopped: ImageError: gone\.jpg: file not found$",
    ):
        train(broken, tmp_path, epochs=1, **SMALL)


def test_loss_that_is_not_finite_stops_the_training(
    dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    train(dataset, tmp_path, epochs=1, **SMALL)
    real = training.restore

    def spoilt(checkpoint: tf.train.Checkpoint, prefix: Path) -> None:
        real(checkpoint, prefix)
        checkpoint.network.get_layer("logits").bias.assign([np.nan, 0.0])

    monkeypatch.setattr(training, "restore", spoilt)
    message = (
        rf"^training stopped at step 4: the loss is not finite\. The last good checkpoint, "
        rf"{tmp_path}/checkpoint/epoch-1, is kept\. Likely remedies: "
    )
    with pytest.raises(NotFinite, match=message):
        train(dataset, tmp_path, epochs=2, resume=True, **SMALL)
    last = latest_checkpoint(tmp_path)
    assert last is not None and last[1] == 1


def test_weights_that_are_not_finite_are_not_saved(
    dataset: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(training, "first_not_finite", lambda variables: "logits/bias")
    message = (
        r"^training stopped at step 3: logits/bias is not finite any more\. "
        r"No checkpoint was saved yet\. "
    )
    with pytest.raises(NotFinite, match=message):
        train(dataset, tmp_path, epochs=1, **SMALL)
    assert latest_checkpoint(tmp_path) is None


def test_second_training_of_a_run_is_refused(dataset: DataSet, tmp_path: Path):
    message = rf"^{tmp_path}: process {os.getpid()} is training this run; wait until it ends\.$"
    with only_training(tmp_path), pytest.raises(ValueError, match=message):
        train(dataset, tmp_path, epochs=1, **SMALL)


def test_resume_refuses_changed_photographs(trained: Path, dataset: DataSet):
    before = (trained / "facts.json").read_bytes()
    fewer = dataclasses.replace(dataset, train=dataset.train.take(np.arange(11)))
    message = (
        rf"^{trained}: the data have changed since the run was made: class red: 1 image lost\. "
    )
    with pytest.raises(StaleArtifact, match=message):
        train(fewer, trained, epochs=4, seed=3, resume=True, **SMALL)
    assert (trained / "facts.json").read_bytes() == before


def test_unreadable_state_changes_no_file(dataset: DataSet, tmp_path: Path):
    train(dataset, tmp_path, epochs=1, **SMALL)
    (tmp_path / "checkpoint" / "epoch-1.index").write_bytes(b"")
    before = (tmp_path / "recipe.json").read_bytes()
    with pytest.raises(ValueError, match="epoch-1: does not fit the network"):
        train(dataset, tmp_path, epochs=5, resume=True, **SMALL)
    assert (tmp_path / "recipe.json").read_bytes() == before
