"""Run the process of one session and record its state.

`python -m delf_ext.nsml.supervisor SESSION [MODEL_FOLDER]` is started by runner.py.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import delf_ext
from data_io.files.locks import in_turn
from delf_ext.nsml import records, store
from delf_ext.nsml.processes import watch
from delf_ext.nsml.records import Session, State

ROOT = Path(delf_ext.__file__).resolve().parent.parent


def environment(session: Session, code: Path, model: str) -> dict[str, str]:
    """Return the environment variables of a session's process.

    Args:
        session: the session.
        code: working directory of the process.
        model: folder of the model that it starts from, or "".

    Returns:
        Variables of this process, without those of a session around it, and of the new session.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NSML_")}
    dataset = str(store.dataset_folder(session.dataset))
    shim = str(Path(__file__).with_name("shim"))
    # ROOT makes delf_ext importable if this checkout is not installed.
    python_path = [shim, str(code), os.environ.get("PYTHONPATH"), str(ROOT)]
    return {
        **inherited,
        "MANDOO_HOME": str(store.home()),
        "NSML_SESSION_DIR": str(store.session_folder(session.name)),
        "NSML_SESSION_NAME": session.name,
        "NSML_DATASET_PATH": dataset,
        "DATASET_PATH": dataset,
        "NSML_DATASET_NAME": session.dataset,
        "NSML_GPU_NUM": str(session.gpus),
        "NSML_CHECKPOINT_DIR": model,
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(session.gpus))),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
    }


def supervise(name: str, model: str = "") -> None:
    """Run a session and record its state.

    Args:
        name: name of the session.
        model: folder of the model that a forked or resumed session starts from, or "".
    """
    session = records.read_session(name)
    folder = store.session_folder(name)
    command = [sys.executable, session.entry, *session.args]
    if model:
        command += ["--pause=1", f"--iteration={Path(model).parent.name}"]
    code = folder / "code"
    with in_turn(folder / records.RUNNING_LOCK):
        _watch(name, command, code, environment(session, code, model))


def _watch(name: str, command: list[str], code: Path, variables: dict[str, str]) -> None:
    """Run the process of a session, and record how it ended."""
    state = State("running", os.getpid(), time.time())
    records.write_state(name, state)
    try:
        outcome = watch(command, code, variables, store.session_folder(name) / "log")
        status = "failed" if outcome.exit_code else "exited"
        state = replace(state, status=status, exit_code=outcome.exit_code, reason=outcome.reason)
    except KeyboardInterrupt:
        state = replace(state, status="stopped")
    except OSError as error:
        state = replace(state, status="failed", exit_code=1, reason=str(error))
    _record(name, replace(state, ended=time.time()))


def _record(name: str, state: State) -> None:
    """Write the state, also if the disk is full."""
    try:
        records.write_state(name, state)
    except OSError:
        # There is no space for a new file, but the old one can be overwritten.
        path = store.session_folder(name) / "state.json"
        with open(path, "r+b") as file:
            file.write(json.dumps(asdict(state)).encode().ljust(path.stat().st_size))


if __name__ == "__main__":
    # `nsml stop` sends SIGTERM, which then raises a KeyboardInterrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    supervise(*sys.argv[1:])
