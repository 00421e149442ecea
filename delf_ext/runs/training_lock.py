"""Let only one process train in a run directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from data_io.files.locks import only_writer

LOCK = ".training"


@contextlib.contextmanager
def only_training(run_dir: Path) -> Iterator[None]:
    """Hold the lock of a run directory; the lock of a process that died does not count.

    Args:
        run_dir: the run directory; it is created, and deleted again if it stays empty.

    Raises:
        ValueError: another process trains there; the message gives its process id.
    """
    is_new = not run_dir.exists()
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        with only_writer(run_dir / LOCK, "training this run"):
            yield
    finally:
        # A training that was refused leaves nothing.
        with contextlib.suppress(OSError):
            if [path.name for path in run_dir.iterdir()] == [LOCK]:
                (run_dir / LOCK).unlink()
                if is_new:
                    run_dir.rmdir()
