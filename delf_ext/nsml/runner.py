"""Start, resume, stop and delete sessions.

Each session runs under a supervisor process, which continues if the terminal is closed. The
supervisor's output is the session's log. It holds a lock as long as it lives, so a session has only
one supervisor.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path

import psutil

from data_io.files.locks import only_writer
from delf_ext.nsml import datasets, records, snapshot, store
from delf_ext.nsml.processes import GRACE_S
from delf_ext.nsml.records import Session, State
from delf_ext.nsml.supervisor import ROOT

# Time for a supervisor to write its first state, on a busy machine.
START_S = 60.0
POLL_S = 0.05


def run(
    dataset: str, entry: str, args: tuple[str, ...] = (), gpus: int = 1, memo: str = ""
) -> Session:
    """Start a session with the code in the current folder.

    Args:
        dataset: name of the data set.
        entry: file or package to run.
        args: arguments of the entry.
        gpus: number of GPUs that the session can use.
        memo: description for `nsml ps`.

    Returns:
        The session.

    Raises:
        ValueError: There is no such data set or entry; nothing is created then.
        OSError: The disk is full.
    """
    entry = os.path.relpath(entry or ".")
    return _begin(Session("", dataset, entry, args, gpus, memo), Path.cwd())


def fork(
    name: str, checkpoint: str = "", args: tuple[str, ...] = (), gpus: int | None = None
) -> Session:
    """Start a session with the code, arguments and a checkpoint of another session.

    Args:
        name: name of the other session.
        checkpoint: name of its checkpoint; the newest one by default.
        args: further arguments of the entry.
        gpus: number of GPUs; as many as the other session by default.

    Returns:
        The new session.

    Raises:
        ValueError: The session, its checkpoint or its data set does not exist.
    """
    parent = records.read_session(name)
    start = store.find_checkpoint(name, checkpoint)
    session = replace(
        parent,
        args=(*parent.args, *args),
        gpus=parent.gpus if gpus is None else gpus,
        parent=parent.name,
        checkpoint=start.name,
    )
    return _begin(session, store.session_folder(name) / "code", str(start / "model"))


def resume(name: str, checkpoint: str = "") -> str:
    """Restart an ended session from one of its checkpoints; append to its log.

    Args:
        name: name of the session.
        checkpoint: name of its checkpoint; the newest one by default.

    Returns:
        Name of the checkpoint.

    Raises:
        ValueError: The session or checkpoint does not exist, or the session still runs.
    """
    session = records.read_session(name)
    start = store.find_checkpoint(name, checkpoint)
    datasets.existing(session.dataset)
    with _locked_log(name) as log:
        records.write_state(name, State())
        _start(name, log, str(start / "model"))
    return start.name


def stop(name: str) -> None:
    """Ask a session to end; after GRACE_S, kill it and all processes that it started.

    Args:
        name: name of the session.

    Raises:
        ValueError: The session does not run.
    """
    state = records.read_state(name)
    if not records.is_running(name):
        raise ValueError(f"{name} does not run ({state.status}).")
    if not state.pid:
        raise ValueError(f"{name} is just starting; try again in a few seconds.")
    os.kill(state.pid, signal.SIGTERM)
    if _wait(lambda: not records.is_running(name), 2 * GRACE_S):
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        # The entry is killed together with its supervisor.
        psutil.Process(state.pid).kill()
    reason = "its supervisor did not answer"
    records.write_state(name, replace(state, status="stopped", ended=time.time(), reason=reason))


def remove(name: str) -> None:
    """Delete a session that has ended, with its checkpoints and submissions.

    Args:
        name: name of the session.

    Raises:
        ValueError: The session runs or does not exist.
    """
    folder = store.existing_session(name)
    with _locked_log(name):
        delete_folder(folder)


def delete_folder(folder: Path) -> None:
    """Delete a folder of the store; rename it first, so that it is not listed in the meantime."""
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}")
    folder.rename(hidden)
    shutil.rmtree(hidden)


def print_growing(path: Path, is_growing: Callable[[], bool]) -> None:
    """Print a file, and what is appended to it as long as `is_growing()`."""
    with open(path, "rb") as file:
        while True:
            # Ask before reading, so that the last read gets everything.
            growing = is_growing()
            while chunk := file.read(2**16):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            if not growing:
                return
            time.sleep(4 * POLL_S)


def _begin(session: Session, source: Path, model: str = "") -> Session:
    """Create a session like `session` and start it with the code in `source`."""
    datasets.existing(session.dataset)
    files = snapshot.code_files(source, session.entry)
    session = records.create(session)
    folder = store.session_folder(session.name)
    with _locked_log(session.name) as log:
        try:
            snapshot.copy_code(source, files, folder / "code")
        except BaseException:
            delete_folder(folder)
            raise
        _start(session.name, log, model)
    return session


@contextlib.contextmanager
def _locked_log(name: str) -> Iterator[FileIO]:
    """Open the log of a session for appending, while no other process runs or changes it."""
    folder = store.session_folder(name)
    if records.is_running(name):
        raise ValueError(f"{name} still runs: `nsml stop {name}` first.")
    lock = only_writer(folder / records.STARTING_LOCK, "starting or deleting this session")
    with lock, open(folder / "log", "ab", buffering=0) as log:
        yield log


def _start(name: str, log: FileIO, model: str) -> None:
    """Start the supervisor and wait until it has written its first state."""
    process = subprocess.Popen(
        [sys.executable, "-m", "delf_ext.nsml.supervisor", name, model],
        # Not the user's folder, which may contain another delf_ext.
        cwd=ROOT,
        env={**os.environ, "MANDOO_HOME": str(store.home())},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    _wait(
        lambda: records.read_state(name).status != "starting" or process.poll() is not None, START_S
    )
    if records.read_state(name).status == "starting":
        process.kill()
        reason = "its supervisor did not start"
        records.write_state(name, State("failed", ended=time.time(), exit_code=1, reason=reason))
        raise ValueError(f"{name}: {reason}; see `nsml logs {name}` for the reason.")


def _wait(condition: Callable[[], bool], limit_s: float) -> bool:
    """Wait for a condition; return whether it became true within the limit."""
    give_up = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_S)
    return True
