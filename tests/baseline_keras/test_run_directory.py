from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

from baseline_keras.run_directory import RunConfig, claim, latest_checkpoint, read_config, restore, save_checkpoint
from data_io.artifacts import StaleArtifact

CONFIG = RunConfig(64, 2, 5, 4, 0, "photos", ("cup", "pen"))


def checkpoint_of(*values: float) -> tf.train.Checkpoint:
    return tf.train.Checkpoint(weights=tf.Variable(values))


def test_a_config_comes_back(tmp_path: Path):
    claim(tmp_path / "run", CONFIG, resume=False)
    assert read_config(tmp_path / "run") == CONFIG
    assert json.loads((tmp_path / "run" / "config.json").read_text())["system"] == "keras_baseline"


def test_a_run_is_not_overwritten_and_not_mixed(tmp_path: Path):
    claim(tmp_path, CONFIG, resume=True)
    with pytest.raises(ValueError, match=f"{tmp_path}: already holds a run. Pass --resume to continue it"):
        claim(tmp_path, CONFIG, resume=False)
    other = dataclasses.replace(CONFIG, image_size=32, class_names=("cup", "jar", "pen"))
    with pytest.raises(StaleArtifact, match="image_size 64 became 32, class_names of 2 classes became of 3 classes"):
        claim(tmp_path, other, resume=True)
    assert read_config(tmp_path) == CONFIG
    claim(tmp_path, dataclasses.replace(CONFIG, epochs=9), resume=True)
    assert read_config(tmp_path).epochs == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config.json: not found"),
        ("{", "config.json: not readable as JSON"),
        ('{"system": "dual_head"}', "config.json: not a run of the Keras baseline"),
        ('{"system": "keras_baseline", "size": 1}', "config.json: keys must be batch_size, class_names.*Received size, system"),
    ],
)
def test_another_directory_is_named(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path)


def test_one_checkpoint_is_kept_and_found(tmp_path: Path):
    assert latest_checkpoint(tmp_path) is None
    checkpoint = checkpoint_of(1.0, 2.0)
    (tmp_path / "checkpoint" / "epoch-7_temp").mkdir(parents=True)  # what a kill while writing leaves
    for epoch in (1, 2):
        checkpoint.weights.assign([epoch, epoch])
        save_checkpoint(tmp_path, checkpoint, epoch)
    assert latest_checkpoint(tmp_path) == (tmp_path / "checkpoint" / "epoch-2", 2)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == [
        "epoch-2.data-00000-of-00001",
        "epoch-2.index",
        "latest",
    ]


@pytest.mark.parametrize("epochs_done", [1, 10])  # epoch-1 and epoch-10 begin alike
def test_a_copied_run_is_its_own(tmp_path: Path, epochs_done: int):
    save_checkpoint(tmp_path / "a", checkpoint_of(1.0), epochs_done)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    save_checkpoint(tmp_path / "b", checkpoint_of(2.0), 11 - epochs_done)
    values = {}
    for run in "ab":
        restored = checkpoint_of(0.0)
        latest = latest_checkpoint(tmp_path / run)
        assert latest is not None
        restore(restored, latest[0])
        values[run] = float(restored.weights[0])
    assert values == {"a": 1.0, "b": 2.0}


def test_a_failed_write_keeps_the_epoch_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkpoint = checkpoint_of(1.0)
    save_checkpoint(tmp_path, checkpoint, 1)

    def full_disk(prefix: str) -> None:
        Path(f"{prefix}.data-00000-of-00001").write_bytes(b"half")
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(checkpoint, "write", full_disk)
    with pytest.raises(OSError, match=r"epoch-2: could not be written \(No space left on device\); the epoch before is kept"):
        save_checkpoint(tmp_path, checkpoint, 2)
    latest = latest_checkpoint(tmp_path)
    assert latest is not None and latest[1] == 1
    restore(checkpoint_of(0.0), latest[0])


def test_another_network_and_a_damaged_file_are_refused(tmp_path: Path):
    save_checkpoint(tmp_path, checkpoint_of(1.0, 2.0), 1)
    prefix = tmp_path / "checkpoint" / "epoch-1"
    with pytest.raises(ValueError, match="epoch-1: does not fit the network"):
        restore(checkpoint_of(0.0), prefix)
    with pytest.raises(ValueError, match="epoch-1: does not fit the network"):
        restore(tf.train.Checkpoint(other=tf.Variable(0.0)), prefix)
    Path(f"{prefix}.index").unlink()
    with pytest.raises(ValueError, match="epoch-1: does not fit the network"):
        restore(checkpoint_of(1.0, 2.0), prefix)
