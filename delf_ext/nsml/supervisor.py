"""The process that watches over one session: `python -m delf_ext.nsml.supervisor SESSION [CHECKPOINT]`, started by runner.py."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import FileIO
from pathlib import Path

import psutil

import delf_ext
from delf_ext.nsml import store
from delf_ext.nsml.store import Session, State
from delf_ext.nsml.tables import printable

ROOT = Path(delf_ext.__file__).resolve().parent.parent
LOG_BYTES = 64 * 2**20  # of one run's output; the rest is read and dropped
GRACE_S = 10.0  # between being asked to end and being killed
TAIL_BYTES = 16 * 2**10  # of the output, in which the reason of a failure is looked for
LIKELY: dict[int, str] = {
    signal.SIGKILL: "out of memory?",
    signal.SIGBUS: "Bus error: is a disk full?",
}  # of mapped files
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Outcome:
    """How a process ended. exit_code: -N for signal N. reason: why it failed, in one line; "" when it did not."""

    exit_code: int
    timed_out: bool
    reason: str
    seconds: float


def watch(
    command: Sequence[str],
    cwd: str | Path,
    env: Mapping[str, str],
    log_path: str | Path,
    limit_s: float = math.inf,
) -> Outcome:
    """Runs a command, appends what it prints to a log, kills it at the limit, and ends with it all that it left behind.

    On Linux that holds for processes which made a session of their own, too, and the command dies with its watcher. So one
    process watches one command at a time. Elsewhere the command's process group ends with it.

    Raises: OSError when it cannot be started or the log not be opened; KeyboardInterrupt, once all have ended, when
    interrupted: the command is then asked to end (SIGTERM) and has GRACE_S to do so.
    """
    spared = _children()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what the command orphans becomes ours
    tail, timed_out = bytearray(), False
    with open(log_path, "ab", buffering=0) as log:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
            preexec_fn=partial(_die_with, os.getpid()),
        )
        drain = threading.Thread(target=_drain, args=(process.stdout, log, tail), daemon=True)
        begun = time.monotonic()
        try:
            drain.start()
            process.wait(None if limit_s == math.inf else max(0.0, limit_s))
        except subprocess.TimeoutExpired:
            timed_out = True
        except KeyboardInterrupt:
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(GRACE_S)
            raise
        finally:
            seconds = time.monotonic() - begun
            _end_all(process.pid, spared)
            process.wait()
            drain.join(
                GRACE_S
            )  # the pipe is closed now, unless something escaped where there is no /proc
    reason = (
        f"not done at the limit of {limit_s:g} s"
        if timed_out
        else _reason(process.returncode, bytes(tail))
    )
    return Outcome(process.returncode, timed_out, reason, seconds)


def environment(session: Session, code: Path, model: Path | None = None) -> dict[str, str]:
    """What a session's process finds in its environment. code: its working directory; model: the folder of the checkpoint that
    it begins with."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith("NSML_")}
    dataset, shim = (
        str(store.dataset_folder(session.dataset)),
        str(Path(__file__).with_name("shim")),
    )
    paths = [
        shim,
        str(code),
        os.environ.get("PYTHONPATH"),
        str(ROOT),
    ]  # ROOT: for sessions of a checkout that is not installed
    return {
        **outer,
        "MANDOO_HOME": str(store.home()),
        "NSML_SESSION_DIR": str(store.session_folder(session.name)),
        "NSML_SESSION_NAME": session.name,
        "NSML_DATASET_PATH": dataset,
        "DATASET_PATH": dataset,
        "NSML_DATASET_NAME": session.dataset,
        "NSML_GPU_NUM": str(session.gpus),
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(session.gpus))),
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **({"NSML_CHECKPOINT_DIR": str(model)} if model else {}),
    }


def supervise(name: str, checkpoint: str = "") -> State:
    """Runs the session and keeps its state. checkpoint: one of its own to go on from, when it is resumed."""
    session, folder = store.read_session(name), store.session_folder(name)
    owner, checkpoint = (name, checkpoint) if checkpoint else (session.parent, session.checkpoint)
    model = store.checkpoint_folder(owner, checkpoint) / "model" if checkpoint else None
    more = ("--pause=1", f"--iteration={checkpoint}") if checkpoint else ()
    state = State("running", os.getpid(), time.time())
    store.write_state(name, state)
    try:
        command, code = [sys.executable, session.entry, *session.args, *more], folder / "code"
        outcome = watch(command, code, environment(session, code, model), folder / "log")
        status = "failed" if outcome.exit_code else "exited"
        state = replace(state, status=status, exit_code=outcome.exit_code, reason=outcome.reason)
    except KeyboardInterrupt:
        state = replace(state, status="stopped")
    except OSError as error:
        state = replace(state, status="failed", exit_code=1, reason=str(error))
    state = replace(state, ended=time.time())
    _record(name, state)
    return state


def _record(name: str, state: State) -> None:
    """On a full disk, too, which may be what ended the session: no new file fits, but the old one's block is there."""
    try:
        store.write_state(name, state)
    except OSError:
        path = store.session_folder(name) / "state.json"
        with open(path, "r+b") as file:
            file.write(json.dumps(asdict(state)).encode().ljust(path.stat().st_size))


def _drain(output: FileIO, log: FileIO, tail: bytearray) -> None:
    """Reads to the end, whatever the log can take: a full log, or disk, costs the log and not the run."""
    room = LOG_BYTES
    with output:
        while chunk := output.read(2**16):
            tail += chunk
            del tail[:-TAIL_BYTES]
            with contextlib.suppress(
                OSError, ValueError
            ):  # a full disk; closed by a watcher that waited long enough
                if room > 0:
                    log.write(chunk[:room])
                    if len(chunk) >= room:
                        log.write(
                            f"\n[nsml] the log ends here: {LOG_BYTES // 2**20} MB are enough.\n".encode()
                        )
            room -= len(chunk)


def _reason(exit_code: int, tail: bytes) -> str:
    """One line: the exception of the last traceback, else the last line printed, else what the exit code says."""
    if exit_code == 0:
        return ""
    if exit_code < 0:
        return f"signal {-exit_code} ({LIKELY.get(-exit_code, signal.strsignal(-exit_code))})"
    text = tail.decode("utf-8", "replace")
    _, traceback, after = text.rpartition("Traceback (most recent call last):\n")
    raised = (
        [line for line in after.splitlines() if line.strip() and not line.startswith(" ")]
        if traceback
        else []
    )
    lines = raised[:1] or [line.strip() for line in text.splitlines() if line.strip()][-1:]
    return printable(lines[0][:500]) if lines else f"exit code {exit_code}"


def _end_all(leader: int, spared: Iterable[psutil.Process]) -> None:
    """Kill the leader's process group and all descendants of this process except `spared`.

    Repeat until none is left, because a process may fork while the others are killed.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    give_up = time.monotonic() + GRACE_S
    while (left := _descendants(spared)) and time.monotonic() < give_up:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)


def _descendants(spared: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the living descendants of this process, without `spared` and their descendants."""
    descendants = []
    for child in _children():
        if child not in spared:
            descendants += [child, *_children(child, recursive=True)]
    return [process for process in descendants if _is_alive(process)]


def _children(
    process: psutil.Process | None = None, recursive: bool = False
) -> list[psutil.Process]:
    """Return the children of a process (default: this one); none on a system without /proc."""
    try:
        return (process or psutil.Process()).children(recursive)
    except (psutil.Error, OSError):
        return []


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _die_with(watcher: int) -> None:
    """Run in the child before its command: kill -9 of the watcher must not leave it running unseen."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != watcher:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0)))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `nsml stop` is an interruption
    supervise(*sys.argv[1:])
