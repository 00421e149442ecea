from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from baseline_keras.run_directory import (
    Settings,
    claim,
    latest_checkpoint,
    restore,
    save_checkpoint,
    settings_of,
)
from data_io.files.artifacts import StaleArtifact, write_json
from delf_ext.runs.records import Facts
from delf_ext.runs.run_directory import read_run, write_run

SETTINGS = Settings(image_size=64, num_classes=2, epochs=5, batch_size=4)
CLASSES = ("cup", "pen")


def claimed(
    run_dir: Path,
    settings: Settings = SETTINGS,
    seed: int = 0,
    class_names: tuple[str, ...] = CLASSES,
    resume: bool = False,
) -> None:
    claim(run_dir, settings, seed, "photos", class_names, resume)


def checkpoint_of(*values: float) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(weights=tf.Variable(values))


def test_claim_writes_settings_and_facts(tmp_path: Path):
    claimed(tmp_path / "run", seed=7)
    run = read_run(tmp_path / "run")
    assert settings_of(run) == SETTINGS
    assert (run.kind, run.facts.seed, run.facts.data) == ("keras_baseline", 7, "photos")
    assert run.facts.class_names == CLASSES and run.facts.versions["tensorflow"].startswith("2.")
    stored = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert stored == {"format": 2, "kind": "keras_baseline", "recipe": dataclasses.asdict(SETTINGS)}


def test_claim_refuses_another_run(tmp_path: Path):
    claimed(tmp_path, resume=True)
    message = f"{tmp_path}: already holds a run. Pass --resume to continue it"
    with pytest.raises(ValueError, match=message):
        claimed(tmp_path)
    other = dataclasses.replace(SETTINGS, image_size=32)
    changes = "image_size 64 became 32, 1 new classes, the first: jar"
    with pytest.raises(StaleArtifact, match=changes):
        claimed(tmp_path, other, class_names=("cup", "jar", "pen"), resume=True)
    renamed = "1 lost classes, the first: cup, 1 new classes, the first: mug"
    with pytest.raises(StaleArtifact, match=renamed):
        claimed(tmp_path, class_names=("mug", "pen"), resume=True)
    with pytest.raises(StaleArtifact, match="the classes come in another order"):
        claimed(tmp_path, class_names=("pen", "cup"), resume=True)
    assert settings_of(read_run(tmp_path)) == SETTINGS
    claimed(tmp_path, dataclasses.replace(SETTINGS, epochs=9), resume=True)
    assert settings_of(read_run(tmp_path)).epochs == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "recipe.json: not found"),
        ("{", "recipe.json: not readable as JSON"),
        (
            '{"kind": "keras_baseline"}',
            "recipe.json: not the recipe of a run: it must hold format, kind",
        ),
    ],
)
def test_damaged_recipe_is_an_error_with_its_path(
    tmp_path: Path, content: str | None, message: str
):
    if content is not None:
        (tmp_path / "recipe.json").write_text(content)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "last-50.index").touch()
    with pytest.raises(ValueError, match=message):
        claimed(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("kind", "recipe", "message"),
    [
        ("recipe", {}, "not a run of the Keras baseline, but of kind 'recipe'"),
        ("keras_baseline", {"size": 1}, "not a run of the Keras baseline .unknown key size in Set"),
        (
            "keras_baseline",
            {"image_size": 1},
            "not a run of the Keras baseline .*missing 3 required",
        ),
    ],
)
def test_settings_of_another_kind_of_run_is_an_error(
    tmp_path: Path, kind: str, recipe: dict, message: str
):
    write_run(tmp_path, kind, recipe, Facts())
    with pytest.raises(ValueError, match=f"{tmp_path}: {message}"):
        settings_of(read_run(tmp_path))


def test_only_the_newest_checkpoint_is_kept(tmp_path: Path):
    assert latest_checkpoint(tmp_path) is None
    checkpoint = checkpoint_of(1.0, 2.0)
    # A kill can leave such a folder.
    (tmp_path / "checkpoint" / "epoch-7_temp").mkdir(parents=True)
    for epoch in (1, 2):
        checkpoint.weights.assign([epoch, epoch])
        save_checkpoint(tmp_path, checkpoint, epoch)
    assert latest_checkpoint(tmp_path) == (tmp_path / "checkpoint" / "epoch-2", 2)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir() if path.is_file()) == [
        "epoch-2.data-00000-of-00001",
        "epoch-2.index",
        "epoch.json",
    ]


# The name epoch-1 is the start of epoch-10.
@pytest.mark.parametrize("epochs_done", [1, 10])
def test_copied_run_is_independent(tmp_path: Path, epochs_done: int):
    save_checkpoint(tmp_path / "a", checkpoint_of(1.0), epochs_done)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    save_checkpoint(tmp_path / "b", checkpoint_of(2.0), 11 - epochs_done)
    values = {}
    for run in ("a", "b"):
        restored = checkpoint_of(0.0)
        latest = latest_checkpoint(tmp_path / run)
        assert latest is not None
        restore(restored, latest[0])
        values[run] = float(restored.weights[0])
    assert values == {"a": 1.0, "b": 2.0}


def test_failed_write_keeps_the_checkpoint_of_the_epoch_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkpoint = checkpoint_of(1.0)
    save_checkpoint(tmp_path, checkpoint, 1)

    def full_disk(prefix: str) -> None:
        Path(f"{prefix}.data-00000-of-00001").write_bytes(b"half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(checkpoint, "write", full_disk)
    message = (
        r"epoch-2: could not be written \(No space left on device\)\. "
        "The checkpoint of the epoch before is kept"
    )
    with pytest.raises(OSError, match=message):
        save_checkpoint(tmp_path, checkpoint, 2)
    latest = latest_checkpoint(tmp_path)
    assert latest is not None and latest[1] == 1
    restore(checkpoint_of(0.0), latest[0])


def test_restore_refuses_another_network_and_a_damaged_file(tmp_path: Path):
    save_checkpoint(tmp_path, checkpoint_of(1.0, 2.0), 1)
    prefix = tmp_path / "checkpoint" / "epoch-1"
    with pytest.raises(ValueError, match="epoch-1: does not fit the network"):
        restore(checkpoint_of(0.0), prefix)
    with pytest.raises(ValueError, match="epoch-1: does not fit the network"):
        restore(tf.train.Checkpoint(other=tf.Variable(0.0)), prefix)
    Path(f"{prefix}.index").unlink()
    with pytest.raises(ValueError, match="epoch-1: does not fit the network"):
        restore(checkpoint_of(1.0, 2.0), prefix)


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """Write a run of the first format, with config.json, after two epochs."""
    folder = tmp_path / "old"
    config = {**dataclasses.asdict(SETTINGS), "seed": 3, "data": "photos", "class_names": CLASSES}
    write_json(folder / "config.json", {**config, "system": "keras_baseline"})
    (folder / "checkpoint").mkdir()
    checkpoint_of(1.0, 2.0).write(str(folder / "checkpoint" / "epoch-2"))
    (folder / "checkpoint" / "latest").write_text("epoch-2\n")
    return folder


def test_run_of_the_first_format_is_read(old_run: Path):
    run = read_run(old_run)
    assert settings_of(run) == SETTINGS and run.is_old
    assert (run.facts.seed, run.facts.data, run.facts.class_names) == (3, "photos", CLASSES)
    assert latest_checkpoint(old_run) == (old_run / "checkpoint" / "epoch-2", 2)
    assert not (old_run / "recipe.json").exists()


def test_run_of_the_first_format_is_not_resumed(old_run: Path):
    with pytest.raises(ValueError, match="already holds a run. Pass --resume"):
        claimed(old_run, seed=3)
    with pytest.raises(ValueError) as refused:
        claimed(old_run, seed=3, resume=True)
    message = (
        "an earlier version made this run. It can be evaluated, but not resumed: train again with "
        "another --run_dir."
    )
    assert str(refused.value) == f"{old_run}: {message}"
    assert not (old_run / "recipe.json").exists()
