from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_io.files.locks import in_turn, is_locked, only_writer

HOLD = """
import sys, time
from pathlib import Path
from data_io.files.locks import only_writer
with only_writer(Path(sys.argv[1]), "training here"):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_owner_is_named_and_the_lock_of_a_dead_process_does_not_count(
    root: Path, tmp_path: Path
) -> None:
    lock = tmp_path / ".lock"
    assert not is_locked(lock) and not lock.exists()
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as process:
        assert process.stdout is not None and process.stdout.readline() == b"locked\n"
        assert is_locked(lock)
        message = f"^{tmp_path}: process {process.pid} is training here; wait until it ends.$"
        with pytest.raises(ValueError, match=message), only_writer(lock, "training here"):
            pass
        os.kill(process.pid, signal.SIGKILL)
    assert not is_locked(lock)
    with only_writer(lock, "training here"):
        assert is_locked(lock)
    assert not is_locked(lock)


def test_unknown_owner_is_another_process(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    refused = pytest.raises(ValueError, match=": another process is busy; ")
    with in_turn(lock), refused, only_writer(lock, "busy"):
        pass
