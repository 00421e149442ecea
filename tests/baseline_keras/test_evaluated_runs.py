"""Test runs of the baseline with mandoo's commands: evaluate them, then resume them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import dual_main
from baseline_keras.__main__ import main
from baseline_keras.network import build_network
from baseline_keras.run_directory import Settings
from data_io.files.artifacts import write_json

SIZE_PX = 16


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw noise: four training images, two queries and four gallery images of two classes."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("query", 1), ("gallery", 2)):
        for name in ("cup", "pen"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (24, 24, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{split}{number}.png")
    return folder


@pytest.fixture
def flags(photos: Path, tmp_path: Path) -> list[str]:
    """Return the flags of a small run in `tmp_path`/run."""
    small = [f"--image_size={SIZE_PX}", "--batch_size=2"]
    return [f"--data={photos}", f"--run_dir={tmp_path}/run", *small]


def test_evaluated_run_can_be_resumed(
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
):
    """Earlier, figures and history shared metrics.json and resuming raised KeyError: 'loss'."""
    assert main([*flags, "--epochs=1"]) == 0
    dual_main.main(["evaluate", *flags[:2], "--noreport"])
    (figures,) = set((tmp_path / "run" / "metrics").iterdir()) - {
        tmp_path / "run" / "metrics" / "training.json",
    }
    assert json.loads(figures.read_text())["model"] == "keras_baseline run"
    assert f"figures: {figures}" in capsys.readouterr().out

    assert main([*flags, "--epochs=2", "--resume"]) == 0
    assert f"{tmp_path}/run: 2 epochs, loss " in capsys.readouterr().out
    history = json.loads((tmp_path / "run" / "metrics" / "training.json").read_text())
    assert history["epochs_done"] == len(history["loss"]) == 2


def test_query_photographs_that_the_baseline_was_trained_on_are_refused(
    photos: Path, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert main([*flags, "--epochs=1"]) == 0
    own = [f"--data={photos}/train", flags[1], "--noreport"]
    with pytest.raises(SystemExit):
        dual_main.main(["evaluate", *own])
    assert "4 of 4 query photographs were trained on; the first: " in capsys.readouterr().err
    dual_main.main(["evaluate", *own, "--allow_trained_photographs"])
    output = capsys.readouterr().out
    assert "4 of 4 query photographs were trained on (--allow_trained_photographs)" in output
    assert "searched in all the others; 2 of 2 query classes were trained on" in output


def test_evaluation_after_a_resume_ignores_embeddings_of_earlier_weights(
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
):
    evaluate = ["evaluate", *flags[:2], "--noreport"]
    assert main([*flags, "--epochs=1"]) == 0
    dual_main.main(evaluate)
    capsys.readouterr()
    dual_main.main(evaluate)
    assert "embedding gallery: 4 of 4 are stored in" in capsys.readouterr().out
    assert main([*flags, "--epochs=2", "--resume"]) == 0
    dual_main.main(evaluate)
    assert "are stored in" not in capsys.readouterr().out


@pytest.fixture
def old_run(photos: Path, tmp_path: Path) -> Path:
    """Write a run of the first format: config.json, metrics.json, checkpoint/latest."""
    folder = tmp_path / "old"
    settings = dataclasses.asdict(Settings(SIZE_PX, 2, 1, 2))
    facts = {"seed": 0, "data": photos.name, "class_names": ["cup", "pen"]}
    write_json(folder / "config.json", {**settings, **facts, "system": "keras_baseline"})
    write_json(folder / "metrics.json", {"system": "keras_baseline", "loss": [0.5]})
    (folder / "checkpoint").mkdir()
    tf.keras.utils.set_random_seed(1)
    network = build_network(2, SIZE_PX)
    tf.train.Checkpoint(network=network).write(str(folder / "checkpoint" / "epoch-1"))
    (folder / "checkpoint" / "latest").write_text("epoch-1\n")
    return folder


def test_run_of_the_first_format_is_evaluated(
    photos: Path,
    old_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
):
    out = tmp_path / "figures.json"
    before = (old_run / "metrics.json").read_bytes()
    flags = [f"--data={photos}", f"--run_dir={old_run}", f"--json={out}"]
    dual_main.main(["evaluate", *flags])
    figures = json.loads(out.read_text())
    assert figures["model"] == "keras_baseline old" and figures["num_queries"] == 2
    assert (old_run / "metrics.json").read_bytes() == before
    assert "keras_baseline old: 2 queries in a gallery of 4" in capsys.readouterr().out


def test_resuming_a_run_of_the_first_format_prints_one_line(
    photos: Path,
    old_run: Path,
    capsys: pytest.CaptureFixture,
):
    flags = [f"--data={photos}", f"--run_dir={old_run}", f"--image_size={SIZE_PX}"]
    assert main([*flags, "--batch_size=2", "--epochs=2", "--resume"]) == 1
    message = (
        "an earlier version made this run. It can be evaluated, but not resumed: train again with "
        "another --run_dir."
    )
    assert capsys.readouterr().err == f"error: {old_run}: {message}\n"
    assert not (old_run / "recipe.json").exists()


def test_mandoo_does_not_resume_a_baseline(
    flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
):
    assert main([*flags, "--epochs=1"]) == 0
    with pytest.raises(SystemExit) as ended:
        dual_main.main(["--resume", f"--run_dir={tmp_path}/run"])
    assert ended.value.code == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {tmp_path}/run: holds a run of kind 'keras_baseline'. Resume")
