from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from delf_ext.nsml import records, store, supervisor


def test_environment_describes_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path))
    monkeypatch.setenv("NSML_ANSWER", "of a session around this one")
    monkeypatch.setenv("PYTHONPATH", "mine")
    session = records.Session("you/toy/1", "toy", "main.py", (), gpus=2)
    env = supervisor.environment(session, tmp_path / "code", "")
    assert {name: value for name, value in env.items() if "NSML" in name or "DATASET" in name} == {
        "NSML_SESSION_DIR": str(tmp_path / "sessions/you/toy/1"),
        "NSML_SESSION_NAME": "you/toy/1",
        "NSML_DATASET_PATH": str(tmp_path / "datasets/toy"),
        "DATASET_PATH": str(tmp_path / "datasets/toy"),
        "NSML_DATASET_NAME": "toy",
        "NSML_GPU_NUM": "2",
        "NSML_CHECKPOINT_DIR": "",
    }
    assert env["CUDA_VISIBLE_DEVICES"] == "0,1" and env["MANDOO_HOME"] == str(tmp_path)
    shim, code, mine, ours = env["PYTHONPATH"].split(os.pathsep)
    assert Path(shim, "nsml.py").is_file() and Path(ours, "delf_ext").is_dir()
    assert (code, mine) == (str(tmp_path / "code"), "mine")
    env = supervisor.environment(session, tmp_path, "20/model")
    assert env["NSML_CHECKPOINT_DIR"] == "20/model"
    session = records.Session("you/toy/1", "toy", "main.py", ())
    assert supervisor.environment(session, tmp_path, "")["CUDA_VISIBLE_DEVICES"] == ""


def test_supervise_writes_the_state_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANDOO_HOME", str(tmp_path))
    name = records.create(records.Session("", "toy", "main.py", ())).name
    (store.session_folder(name) / "code").mkdir()
    (store.session_folder(name) / "code/main.py").write_text(
        "raise OSError(28, 'No space left on device')"
    )
    write_state = records.write_state

    def full(name: str, state: records.State) -> None:
        if state.status != "running":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_state(name, state)

    monkeypatch.setattr(records, "write_state", full)
    supervisor.supervise(name)
    state = records.read_state(name)
    assert state.status == "failed" and state.ended > 0
    assert state.reason == "OSError: [Errno 28] No space left on device"
