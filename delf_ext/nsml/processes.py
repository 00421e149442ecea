"""Run a command, append its output to a log, and end all processes that it started."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import psutil

from delf_ext.nsml.tables import printable

# Limit of one run's output in the log. Further output is read and dropped.
LOG_BYTES = 64 * 2**20
# Time between asking a process to end and killing it.
GRACE_S = 10.0
# End of the output that is searched for the reason of a failure.
TAIL_BYTES = 16 * 2**10
# A traceback; its group is the first line that is neither empty nor indented.
TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(?: .*\n|\n)*(\S.*)")
# Likely reasons of a signal. A full disk sends SIGBUS to processes with memory-mapped files.
REASON_OF_SIGNAL = {"SIGKILL": "out of memory?", "SIGBUS": "Bus error: is a disk full?"}
LIKELY_REASONS = {
    # Windows has neither of them.
    int(getattr(signal, name, 0)): reason
    for name, reason in REASON_OF_SIGNAL.items()
}
# Source: linux/prctl.h.
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Outcome(NamedTuple):
    """How a process ended.

    Attributes:
        exit_code: exit code, or -N if signal N ended the process.
        reason: why it failed, in one line; "" if it did not fail.
        seconds: run time.
    """

    exit_code: int
    reason: str
    seconds: float


def watch(
    command: Sequence[str],
    cwd: str | Path,
    env: Mapping[str, str],
    log_path: str | Path,
    limit_s: float | None = None,
) -> Outcome:
    """Run a command, append its output to a log, and end all processes that it started.

    On Linux this includes processes that started a session of their own, and the command is killed
    if this process dies. A process can therefore watch only one command at a time. On other systems
    the process group of the command is ended.

    Args:
        command: program and arguments.
        cwd: working directory.
        env: environment variables.
        log_path: file to append the output to.
        limit_s: seconds after which the command is killed; None for no limit.

    Returns:
        How the command ended.

    Raises:
        OSError: The command cannot be started or the log cannot be opened.
        KeyboardInterrupt: This process was interrupted. The command was asked to end (SIGTERM) and
            has ended: it was killed after GRACE_S.
    """
    spared = set(_descendants(()))
    # Orphans of the command become children of this process.
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    tail = bytearray()
    reason = ""
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
            preexec_fn=partial(_die_with, os.getpid()) if _LIBC is not None else None,
        )
        drain = threading.Thread(target=_drain, args=(process.stdout, log, tail), daemon=True)
        begun = time.monotonic()
        try:
            drain.start()
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            reason = f"not finished at the limit of {limit_s:g} s"
        except KeyboardInterrupt:
            with suppress(subprocess.TimeoutExpired):
                _signal_group(process.pid, signal.SIGTERM)
                process.wait(GRACE_S)
            raise
        finally:
            seconds = time.monotonic() - begun
            _end_all(process.pid, spared)
            process.wait()
            # The pipe is closed now, unless a process escaped on a system other than Linux.
            drain.join(GRACE_S)
    exit_code = process.returncode
    return Outcome(exit_code, reason or _reason(exit_code, tail), seconds)


def _drain(output: FileIO, log: FileIO, tail: bytearray) -> None:
    """Read the output to its end, also if the log or the disk is full."""
    num_free = LOG_BYTES
    limit_message = f"\n[nsml] the log ends here: its limit is {LOG_BYTES // 2**20} MB.\n".encode()
    with output:
        while chunk := output.read(2**16):
            tail += chunk
            del tail[:-TAIL_BYTES]
            # OSError: the disk is full. ValueError: the watcher has closed the log.
            with suppress(OSError, ValueError):
                if num_free > 0:
                    log.write(chunk[:num_free])
                    if len(chunk) >= num_free:
                        log.write(limit_message)
            num_free -= len(chunk)


def _reason(exit_code: int, tail: bytearray) -> str:
    """Return the last exception, else the last line of the output, else the exit code."""
    if exit_code == 0:
        return ""
    if exit_code < 0:
        description = LIKELY_REASONS.get(-exit_code, signal.strsignal(-exit_code))
        return f"signal {-exit_code} ({description})"
    text = tail.decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reasons = TRACEBACK.findall(text) or lines or [f"exit code {exit_code}"]
    return printable(reasons[-1][:500])


def _signal_group(leader: int, number: int) -> None:
    """Send a signal to the processes of a group, if the system has groups."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, number)


def _end_all(leader: int, spared: Collection[psutil.Process]) -> None:
    """Kill the leader's process group and all descendants of this process except `spared`."""
    if hasattr(signal, "SIGKILL"):
        _signal_group(leader, signal.SIGKILL)
    give_up = time.monotonic() + GRACE_S
    is_any_alive = True
    # Repeat, because a process may fork while the others are killed.
    while is_any_alive and time.monotonic() < give_up:
        is_any_alive = False
        for process in _descendants(spared):
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE:
                    process.kill()
                    is_any_alive = True
        time.sleep(0.01)


def _descendants(spared: Collection[psutil.Process]) -> Iterator[psutil.Process]:
    """Yield the descendants of this process, without children in `spared` and their descendants."""
    # psutil lists no processes on a system without /proc.
    with suppress(psutil.Error, OSError):
        for child in psutil.Process().children():
            if child not in spared:
                yield child
                yield from child.children(recursive=True)


def _die_with(watcher: int) -> None:
    """Make the system kill this process if the watcher dies; called before the command starts."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The watcher may have died before the call above.
    if os.getppid() != watcher:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(option, ctypes.c_ulong(value))
