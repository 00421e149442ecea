"""Lock files, so that only one process at a time does a piece of work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

# Two processes that look at the same moment whether a lock is free must not disturb each other.
LOOK_S = 0.1


@contextlib.contextmanager
def only_writer(lock_file: Path, work: str) -> Iterator[None]:
    """Hold a lock while the context is open. The lock of a process that died does not count.

    Args:
        lock_file: the file to lock; it is created in an existing folder.
        work: what the owner of the lock does, for the error.

    Raises:
        ValueError: another process has the lock; the message gives its process id.
    """
    lock = FileLock(lock_file, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"{lock_file.parent}: {_owner(lock_file)} is {work}; wait until it ends."
        ) from None
    note = _owner_note(lock_file)
    try:
        # The id is only for the message of others: a full disk must not stop the work here.
        with contextlib.suppress(OSError):
            note.write_text(str(os.getpid()), encoding="ascii")
        yield
    finally:
        with contextlib.suppress(OSError):
            note.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def in_turn(lock_file: Path) -> Iterator[None]:
    """Wait until no other process has the lock, and hold it while the context is open.

    Args:
        lock_file: the file to lock; it is created in an existing folder.
    """
    with FileLock(lock_file, thread_local=False):
        yield


def is_locked(lock_file: Path) -> bool:
    """Return whether a process has the lock."""
    if not lock_file.exists():
        return False
    lock = FileLock(lock_file, thread_local=False)
    try:
        lock.acquire(timeout=LOOK_S, poll_interval=LOOK_S / 10)
    except Timeout:
        return True
    lock.release()
    return False


def _owner_note(lock_file: Path) -> Path:
    # Not the lock file: on Windows no other process can read it.
    return lock_file.with_name(f"{lock_file.name}.pid")


def _owner(lock_file: Path) -> str:
    """Return "process 123", or "another process" if its id is not known."""
    try:
        return f"process {int(_owner_note(lock_file).read_text(encoding='ascii'))}"
    except (OSError, ValueError):
        return "another process"
