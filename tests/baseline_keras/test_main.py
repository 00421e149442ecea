"""Test the command line of the baseline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from baseline_keras.__main__ import build_parser, main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("cup", "pen"):
        (root / name).mkdir()
        for number in range(4):
            pixels = rng.integers(0, 256, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    (root / "pen" / "empty.jpg").touch()
    return root


def test_defaults_are_the_official_settings():
    args = build_parser().parse_args(["--data=x"])
    assert (args.epochs, args.batch_size, args.image_size) == (100, 64, 224)
    assert (args.seed, args.resume) == (0, False)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: --data"),
        (["--data=x", "--image_size=8"], "argument --image_size: must be from 10 to 4096."),
        (["--data=x", "--batch_size=100000"], "argument --batch_size: must be from 1 to 65536."),
        (["--data=x", "--epoch=3"], "unrecognized arguments: --epoch=3"),
        (["--data=x", "--epochs=0"], "argument --epochs: must be from 1 to 1000000. Received 0."),
        (
            ["--data=x", "--batch_size=many"],
            "argument --batch_size: must be a whole number. Received 'many'.",
        ),
        (["--data=x", "--seed=-1"], "argument --seed: must be from 0 to 4294967295. Received -1."),
    ],
)
def test_usage_errors_exit_2_and_name_the_flag(
    argv: list[str],
    message: str,
    capsys: pytest.CaptureFixture,
):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_help_shows_examples_and_does_not_import_tensorflow():
    program = (
        "import sys\nfrom baseline_keras.__main__ import main\n"
        "try:\n main(['--help'])\n"
        "except SystemExit as stop:\n sys.exit(stop.code or 'tensorflow' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0
    assert "python -m baseline_keras --data=photos --epochs=100" in process.stdout
    assert "--resume" in process.stdout


def test_data_errors_exit_1_with_one_line(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
):
    run = f"--run_dir={tmp_path}/run"
    assert main([f"--data={tmp_path}/absent", run]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path}/absent: not found.") and error.count("\n") == 1
    (tmp_path / "taken").write_text("a file")
    assert main([f"--data={photos}", f"--run_dir={tmp_path}/taken", "--image_size=16"]) == 1
    assert str(tmp_path / "taken") in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_resume_without_a_run_is_refused_before_data_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert main([f"--data={tmp_path}/none", f"--run_dir={tmp_path}/run", "--resume"]) == 1
    assert "run: holds no run. Leave --resume out to start one." in capsys.readouterr().err


def test_killed_run_is_resumed(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    flags = [f"--data={photos}", f"--run_dir={tmp_path}/run", "--image_size=16", "--batch_size=2"]
    command = [sys.executable, "-m", "baseline_keras", *flags, "--epochs=1000"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    latest = tmp_path / "run" / "checkpoint" / "epoch.json"
    deadline = time.monotonic() + 240
    while not latest.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    history = json.loads((tmp_path / "run" / "metrics" / "training.json").read_text())
    epochs = history["epochs_done"] + 1
    assert main([*flags, f"--epochs={epochs}", "--resume"]) == 0
    printed = capsys.readouterr()
    assert f"{tmp_path}/run: {epochs} epochs, loss " in printed.out
    assert "1 files skipped; the first: " in printed.err and "empty.jpg: empty file" in printed.err
    assert main([*flags, "--epochs=3"]) == 1
    assert "already holds a run. Pass --resume to continue it" in capsys.readouterr().err
