"""Train, submit and score `dual_main.py` and the Keras baseline in real sessions."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dual_main
from delf_ext.nsml import records, store

Nsml = Callable[[str], str]
TRAINING = "--resnet_type=resnet_v1_50/block1/unit_1/bottleneck_v1 --image_size=32 --batch_size=8"
TRAINING += " --dev_percent=0.34 --eval_every_steps=2 --train_logits --train_sim"
TRAINING += " --mixed_precision=off"


@pytest.fixture(scope="module")
def nsml(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nsml]:
    """Return a function that runs `nsml WORDS` in a copy of the code and returns its output."""
    place = tmp_path_factory.mktemp("platform")
    shutil.copy(root / "dual_main.py", place)
    for package in ("data_io", "delf_ext", "baseline_keras", "pretrained"):
        shutil.copytree(
            root / package,
            place / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    home = {
        "MANDOO_HOME": str(place / "home"),
        "MANDOO_CACHE": str(place / "cache"),
        "MANDOO_USER": "you",
    }

    def call(words: str) -> str:
        command = [sys.executable, "-m", "delf_ext.nsml", *shlex.split(words)]
        process = subprocess.run(
            command,
            cwd=place,
            env={**os.environ, **home},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == 0, process.stdout + process.stderr
        return process.stdout

    call("dataset push tiny --draw --classes=6")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANDOO_HOME", home["MANDOO_HOME"])
        yield call


@pytest.mark.slow
def test_both_systems_train_and_submit(nsml: Nsml) -> None:
    ours = "you/tiny/1"
    assert f"Session {ours} started." in nsml(
        f'run -d tiny -e dual_main.py --args "--epochs=2 {TRAINING}"',
    )
    nsml('run -d tiny -e baseline_keras --args "--epochs=1 --image_size=32 --batch_size=8"')
    log = nsml(f"logs -f {ours}")
    baseline_log = nsml("logs -f you/tiny/2")
    assert "NSML's DATASET_PATH" in log
    assert "best so far, kept" in log
    assert "1 epochs, loss" in baseline_log
    listed = nsml("ps -a").splitlines()
    assert [line.split()[0] for line in listed[-2:]] == [ours, "you/tiny/2"]
    assert all("exited" in line for line in listed[-2:])
    assert "epoch 2/2" in listed[-2]
    assert "acc 0." in listed[-1]

    checkpoint = store.checkpoint_names(ours)[-1]
    assert checkpoint in nsml(f"model ls {ours}") and store.checkpoint_names("you/tiny/2") == ["0"]
    assert "scored" in nsml(f"submit {ours} {checkpoint}")
    assert "scored" in nsml(
        "submit --limit=120 you/tiny/2 0",
    )
    board = nsml("leaderboard tiny")
    assert ours in board and "you/tiny/2" in board


@pytest.mark.slow
def test_fork_with_new_values_starts_a_run_from_the_old_weights_and_can_be_resumed(
    nsml: Nsml,
) -> None:
    parent = "you/tiny/1"
    forked = "you/tiny/3"
    checkpoint = store.checkpoint_names(parent)[-1]
    started = nsml(f'fork {parent} {checkpoint} -a "--epochs=1 --lr=1e-5"')
    assert f"Session {forked} started from checkpoint {checkpoint}" in started
    log = nsml(f"logs -f {forked}")
    assert f"starts from runs/session-parent (last-{checkpoint}): " in log
    assert "optimizer.lr: 0.0001 -> 1e-05\nstages.0.epochs: 2 -> 1\n" in log
    assert "continuing at step" not in log
    assert records.read_state(forked).status == "exited"
    newest = store.checkpoint_names(forked)[-1]
    assert int(newest) < int(checkpoint), "its steps must be counted from 0"

    nsml(f"resume {forked}")
    log = nsml(f"logs -f {forked}")
    assert f"continuing at step {newest} of {newest}" in log
    assert log.count("starts from runs/session-parent") == 1
    assert records.read_state(forked).status == "exited"


@pytest.mark.slow
def test_pulled_checkpoint_is_a_run_directory(nsml: Nsml, tmp_path: Path, capsys) -> None:
    session = "you/tiny/1"
    checkpoint = store.checkpoint_names(session)[-1]
    nsml(f"model pull {session} {checkpoint} {tmp_path}/pulled")
    photos = store.dataset_folder("tiny") / "train" / "train_data"
    photo = next(photos.rglob("*.jpg"))
    run = f"--run_dir={tmp_path}/pulled"
    dual_main.main(["search", f"--data={photos}", f"--image={photo}", run])
    assert f" 1. 1.0000  {photo}" in capsys.readouterr().out
