"""Starts, continues and ends sessions. Each runs under a supervisor of its own, which outlives the terminal.

The supervisor's output is the session's log, and the log is locked for as long as it lives: two cannot watch one session.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from io import FileIO
from pathlib import Path

from delf_ext.nsml import datasets, snapshot, store
from delf_ext.nsml.store import Session, State
from delf_ext.nsml.supervisor import GRACE_S, ROOT

START_S = 60.0  # for a supervisor to write its first state, on a busy machine
POLL_S = 0.05


def run(
    dataset: str, entry: str, args: tuple[str, ...] = (), gpus: int = 1, memo: str = ""
) -> Session:
    """Starts a session with the code of the current folder.

    Raises: ValueError when there is no such data set or entry file, before anything is made; OSError when a disk is full.
    """
    datasets.existing(dataset)
    entry = os.path.relpath(entry or ".")
    files = snapshot.code_files(Path.cwd(), entry)
    return _begin(store.create(dataset, entry, args, gpus=gpus, memo=memo), Path.cwd(), files)


def fork(
    name: str, checkpoint: str = "", args: tuple[str, ...] = (), gpus: int | None = None
) -> Session:
    """A new session with the parent's code and arguments, more arguments, and one of its checkpoints (the newest) to begin with.

    Raises: ValueError when session, checkpoint or data set do not exist.
    """
    parent, checkpoint = store.read_session(name), store.find_checkpoint(name, checkpoint)
    datasets.existing(parent.dataset)
    code = store.session_folder(name) / "code"
    files = snapshot.code_files(code, parent.entry)
    gpus = parent.gpus if gpus is None else gpus
    others = {"gpus": gpus, "memo": parent.memo, "parent": parent.name, "checkpoint": checkpoint}
    return _begin(
        store.create(parent.dataset, parent.entry, (*parent.args, *args), **others), code, files
    )


def resume(name: str, checkpoint: str = "") -> str:
    """Lets a session that has ended go on from one of its checkpoints (the newest), which is returned; the log is appended to.

    Raises: ValueError when session or checkpoint do not exist, or it still runs.
    """
    session, checkpoint = store.read_session(name), store.find_checkpoint(name, checkpoint)
    datasets.existing(session.dataset)
    with _locked_log(name) as log:
        store.write_state(name, State())
        _start(name, log, checkpoint)
    return checkpoint


def stop(name: str) -> None:
    """Asks a session to end, and ends it GRACE_S later with everything it left behind.

    Raises: ValueError when it does not run.
    """
    store.existing_session(name)
    state = store.read_state(name)
    if not store.is_running(name):
        raise ValueError(f"{name} does not run ({state.status}).")
    if not state.pid:
        raise ValueError(f"{name} is just starting; try again.")
    os.kill(state.pid, signal.SIGTERM)
    if not _wait(lambda: not store.is_running(name), 2 * GRACE_S):
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGKILL)  # its entry dies with it
        store.write_state(
            name,
            replace(
                state, status="stopped", ended=time.time(), reason="its supervisor did not answer"
            ),
        )


def remove(name: str) -> None:
    """Deletes a session that has ended, with its checkpoints and submissions. Raises: ValueError when it runs or is not there."""
    folder = store.existing_session(name)
    with _locked_log(name):
        discard(folder)


def discard(folder: Path) -> None:
    """Deletes a folder of the store: gone from its listings at once, whatever happens while its files are deleted."""
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}")
    folder.rename(hidden)
    shutil.rmtree(hidden)


def read_log(name: str, follow: bool = False) -> Iterator[bytes]:
    """Yield what a session has printed; with `follow` also what it prints until it ends."""
    log = store.existing_session(name) / "log"
    return read_growing(log, lambda: follow and store.is_running(name))


def print_chunks(chunks: Iterable[bytes]) -> None:
    """Print chunks of a log as they come."""
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def read_growing(path: Path, is_growing: Callable[[], bool]) -> Iterator[bytes]:
    """Yield the content of a file in chunks, and what is appended as long as `is_growing()`."""
    with open(path, "rb") as file:
        while True:
            # Ask before reading: everything that was written before the end is then read.
            growing = is_growing()
            while chunk := file.read(2**16):
                yield chunk
            if not growing:
                return
            time.sleep(4 * POLL_S)


def _begin(session: Session, source: Path, files: list[Path]) -> Session:
    folder = store.session_folder(session.name)
    with _locked_log(session.name) as log:
        try:
            snapshot.copy_code(source, files, folder / "code")
        except BaseException:
            discard(folder)
            raise
        _start(session.name, log)
    return session


@contextlib.contextmanager
def _locked_log(name: str) -> Iterator[FileIO]:
    """The log, open to append to, and locked until all processes that got it have closed it. Raises: ValueError when it is."""
    with open(store.session_folder(name) / "log", "ab", buffering=0) as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{name} still runs: `nsml stop {name}` first.") from None
        yield log


def _start(name: str, log: FileIO, checkpoint: str = "") -> None:
    """Starts the supervisor and waits for its first sign of life."""
    process = subprocess.Popen(
        [sys.executable, "-m", "delf_ext.nsml.supervisor", name, *filter(None, [checkpoint])],
        cwd=ROOT,  # not the user's folder: that may hold another delf_ext
        env={**os.environ, "MANDOO_HOME": str(store.home())},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    _wait(
        lambda: store.read_state(name).status != "starting" or process.poll() is not None, START_S
    )
    if store.read_state(name).status == "starting":
        process.kill()
        reason = "its supervisor did not start"
        store.write_state(name, State("failed", ended=time.time(), exit_code=1, reason=reason))
        raise ValueError(f"{name}: {reason}; `nsml logs {name}` says why.")


def _wait(condition: Callable[[], bool], limit_s: float) -> bool:
    """Whether it came true in time."""
    give_up = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_S)
    return True
