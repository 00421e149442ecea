"""Test that damaged or unwritable machine code on disk never stops the work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import added
print(added.added(20, 22), sum(added.added.stats.cache_hits.values()))
"""
MODULE = """
from delf_ext.compiled import compiled

@compiled
def added(a, b):
    return a + b
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled")
    (folder / "added.py").write_text(MODULE, encoding="utf-8")
    return folder


def run(folder: Path, cache: Path) -> str:
    """Return "RESULT CACHE_HITS" of a process that calls a compiled function."""
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(folder=str(folder))],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
@pytest.mark.parametrize("content", [b"", b"not machine code"])
def test_damaged_machine_code_is_compiled_again(
    folder: Path, tmp_path: Path, ending: str, content: bytes
) -> None:
    assert run(folder, tmp_path) == "42 0"
    (stored,) = tmp_path.rglob(f"*{ending}")
    stored.write_bytes(content)
    assert run(folder, tmp_path) == "42 0"
    assert run(folder, tmp_path) == "42 1"


def test_folder_of_machine_code_that_cannot_be_written_costs_only_time(
    folder: Path, tmp_path: Path
) -> None:
    assert run(folder, tmp_path) == "42 0"
    (stored,) = tmp_path.rglob("*.nbi")
    # A folder in place of the file: neither read nor replaced, even by root.
    stored.unlink()
    stored.mkdir()
    (stored / "full").touch()
    assert run(folder, tmp_path) == "42 0"
