from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from baseline_keras import training
from baseline_keras.features import load_embedder
from baseline_keras.network import build_network, compile_network
from baseline_keras.training import ReplayedPlateau, load_checked, train
from data_io.artifacts import load_record
from data_io.datasets import DataSet
from data_io.records import GlobalFeatures

SMALL = {"batch_size": 4, "image_size": 16, "verbose": 0}
COLOURS = {"blue": (40, 40, 200), "red": (200, 40, 40)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy red and blue images of 64 px: train 6, query 1 and gallery 2 of each class, and a broken file."""
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


def test_bad_files_are_left_out_with_their_reason(dataset: DataSet):
    assert (len(dataset.train), len(dataset.query), len(dataset.gallery)) == (12, 2, 4)
    assert [Path(path).name for path, _ in dataset.skipped] == ["broken.jpg"]


def test_the_loss_falls_and_the_run_directory_is_complete(trained: Path):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["loss"][-1] < 0.5 * metrics["loss"][0] and metrics["accuracy"][-1] == 1.0
    assert metrics["learning_rate"] == pytest.approx([4.5e-4] * 4)
    assert (metrics["system"], metrics["epochs_done"], metrics["num_train"], metrics["num_skipped"]) == (
        "keras_baseline",
        4,
        12,
        1,
    )
    config = json.loads((trained / "config.json").read_text())
    assert config.items() >= {"system": "keras_baseline", "image_size": 16, "num_classes": 2, "epochs": 4, "seed": 3}.items()
    assert config["class_names"] == ["blue", "red"]
    names = sorted(path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file())
    events = [name for name in names if name.startswith("events.out.tfevents.")]
    assert len(events) == 1
    assert sorted(set(names) - set(events)) == [
        "checkpoint/epoch-4.data-00000-of-00001",
        "checkpoint/epoch-4.index",
        "checkpoint/latest",
        "config.json",
        "features/gallery.npz",
        "features/query.npz",
        "metrics.json",
    ]


def test_the_events_hold_every_epoch(trained: Path):
    (path,) = trained.glob("events.*")
    values = [
        (value.tag, event.step) for event in tf.compat.v1.train.summary_iterator(str(path)) for value in event.summary.value
    ]
    assert [step for tag, step in values if tag == "epoch_loss"] == [0, 1, 2, 3]


def test_the_features_are_those_of_the_stored_network(trained: Path, dataset: DataSet):
    embedder = load_embedder(trained)
    for name, images in (("query", dataset.query), ("gallery", dataset.gallery)):
        features = load_record(trained / "features" / f"{name}.npz", GlobalFeatures, digest=embedder.digest)
        assert features.ids.tolist() == images.ids.tolist() and features.embeddings.shape == (len(images), 2)
    query, gallery = (load_record(trained / "features" / f"{n}.npz", GlobalFeatures).embeddings for n in ("query", "gallery"))
    nearest = np.argmax(query @ gallery.T, axis=1)
    assert np.array_equal(np.asarray(dataset.gallery.labels)[nearest], dataset.query.labels)


def test_the_same_seed_gives_the_same_numbers(trained: Path, dataset: DataSet, tmp_path: Path):
    before = json.loads((trained / "metrics.json").read_text())
    assert train(dataset, tmp_path / "again", epochs=4, seed=3, **SMALL) == before
    assert train(dataset, tmp_path / "other", epochs=1, seed=4, **SMALL)["loss"][0] != before["loss"][0]


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


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


@pytest.mark.parametrize("moment", ["before metrics", "between metrics and checkpoint", "inside the checkpoint"])
def test_a_run_killed_at_any_moment_loses_at_most_one_epoch(dataset: DataSet, tmp_path: Path, monkeypatch, moment: str):
    def half_written(run_dir: Path, _: object, epochs_done: int) -> None:
        (run_dir / "checkpoint" / f"epoch-{epochs_done}.data-00000-of-00001").write_bytes(b"half")

    name = "write_json" if moment == "before metrics" else "save_checkpoint"
    halfway = half_written if moment == "inside the checkpoint" else None
    monkeypatch.setattr(training, name, killed_in(getattr(training, name), 2, halfway))
    with pytest.raises(Killed):
        train(dataset, tmp_path, epochs=4, **SMALL)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="already holds a run. Pass --resume"):
        train(dataset, tmp_path, epochs=4, **SMALL)
    before = json.loads((tmp_path / "metrics.json").read_text())
    metrics = train(dataset, tmp_path, epochs=4, resume=True, **SMALL)
    assert metrics["epochs_done"] == 4 and len(metrics["loss"]) == 4
    assert metrics["loss"][:2] == before["loss"][:2]
    assert metrics["loss"][3] < 0.5 * metrics["loss"][0]  # it went on from the weights, not from new ones
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir())[0] == "epoch-4.data-00000-of-00001"


def test_resume_keeps_the_optimiser_and_a_finished_run(trained: Path, dataset: DataSet):
    steps = "optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE"
    assert tf.train.load_checkpoint(str(trained / "checkpoint" / "epoch-4")).get_tensor(steps) == 12
    (trained / "features" / "query.npz").unlink()
    before = (trained / "metrics.json").read_bytes()
    train(dataset, trained, epochs=4, seed=3, resume=True, **SMALL)  # nothing left to train: only the features are made anew
    assert (trained / "features" / "query.npz").exists() and (trained / "metrics.json").read_bytes() == before


def test_resume_in_an_empty_directory_begins(dataset: DataSet, tmp_path: Path):
    assert train(dataset, tmp_path / "new", epochs=1, resume=True, **SMALL)["epochs_done"] == 1


def test_resume_with_other_settings_is_refused(trained: Path, dataset: DataSet):
    with pytest.raises(ValueError, match="holds another run .seed 3 became 5"):
        train(dataset, trained, epochs=4, seed=5, resume=True, **SMALL)


def test_the_rate_falls_after_three_epochs_without_progress_also_across_a_resume():
    def rates(past: list[float], coming: list[float]) -> list[float]:
        network = build_network(2, 16)
        compile_network(network)
        network.optimizer.learning_rate = 1.0  # whatever a checkpoint brought
        plateau = ReplayedPlateau(past)
        plateau.set_model(network)
        plateau.on_train_begin()
        found = []
        for epoch, accuracy in enumerate(coming):
            plateau.on_epoch_end(epoch, {"accuracy": accuracy})
            found.append(float(network.optimizer.lr))
        return found

    accuracies = [0.1, 0.3, 0.3, 0.3, 0.3, 0.2, 0.3, 0.29]
    # best at epoch 1; epochs 2, 3, 4 bring nothing: a tenth; 5, 6, 7 bring nothing: a hundredth
    expected = [4.5e-4] * 4 + [4.5e-5] * 3 + [4.5e-6]
    assert rates([], accuracies) == pytest.approx(expected)
    for cut in (1, 3, 5, 7):
        assert rates(accuracies[:cut], accuracies[cut:]) == pytest.approx(expected[cut:])


def test_only_classes_with_training_images_are_learnt(dataset: DataSet, tmp_path: Path):
    wider = dataclasses.replace(
        dataset,
        class_names=("absent", "blue", "also absent", "red"),
        train=dataclasses.replace(dataset.train, labels=np.asarray(dataset.train.labels) * 2 + 1),
    )
    train(wider, tmp_path, epochs=1, **SMALL)
    assert json.loads((tmp_path / "config.json").read_text())["class_names"] == ["blue", "red"]


def test_data_that_cannot_be_trained_on_leave_no_run(dataset: DataSet, tmp_path: Path):
    none = dataclasses.replace(dataset, train=dataset.train.take([]))
    with pytest.raises(ValueError, match="no labelled training image that can be read"):
        train(none, tmp_path, epochs=1, **SMALL)
    one_class = dataclasses.replace(dataset, train=dataset.train.take([0, 1]))
    with pytest.raises(ValueError, match="needs at least two classes. Received 1"):
        train(one_class, tmp_path, epochs=1, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_vanishes_is_named_in_one_line(dataset: DataSet, tmp_path: Path):
    paths = dataset.train.paths.copy()
    paths[3] = "gone.jpg"
    broken = dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, paths=paths))
    with pytest.raises(ValueError, match=r"^training stopped: ImageError: gone\.jpg: file not found$"):
        train(broken, tmp_path, epochs=1, **SMALL)


def test_without_queries_there_are_no_features(dataset: DataSet, tmp_path: Path):
    empty = dataset.query.take([])
    train(dataclasses.replace(dataset, query=empty, gallery=empty), tmp_path, epochs=1, **SMALL)
    assert not (tmp_path / "features").exists()
