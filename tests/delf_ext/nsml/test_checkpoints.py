from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_io.files.artifacts import read_json
from delf_ext.nsml import checkpoints


def writes(text: str):
    return lambda folder: Path(folder, "weights").write_text(text)


def names(above: Path) -> list[str]:
    return sorted(path.name for path in above.iterdir())


def test_write_stores_the_model_and_a_note(tmp_path: Path) -> None:
    checkpoints.write(tmp_path, "12", writes("four"), {"loss": 0.5})
    assert (tmp_path / "12" / "model" / "weights").read_text() == "four"
    note = read_json(tmp_path / "12" / "checkpoint.json")
    assert (note["iteration"], note["summary"], note["bytes"]) == ("12", {"loss": 0.5}, 4)
    assert note["saved"] > 1e9 and note["seconds"] >= 0


def test_write_replaces_a_checkpoint_of_the_same_name(tmp_path: Path) -> None:
    for text in ("first", "second"):
        checkpoints.write(tmp_path, "best", writes(text), {})
    assert (tmp_path / "best" / "model" / "weights").read_text() == "second"
    assert names(tmp_path) == ["best"]


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()],
)
def test_failed_save_keeps_the_earlier_checkpoint(tmp_path: Path, error: BaseException) -> None:
    def fails(folder: str) -> None:
        Path(folder, "weights").write_text("half")
        raise error

    checkpoints.write(tmp_path, "1", writes("first"), {})
    with pytest.raises(type(error)):
        checkpoints.write(tmp_path, "1", fails, {})
    assert (tmp_path / "1" / "model" / "weights").read_text() == "first"
    assert names(tmp_path) == ["1"]


def test_killed_save_keeps_the_earlier_checkpoint_and_the_next_save_cleans_up(
    tmp_path: Path,
) -> None:
    checkpoints.write(tmp_path, "1", writes("first"), {})
    code = f"""
import os
from pathlib import Path
from delf_ext.nsml import checkpoints

def save(folder):
    Path(folder, "weights").write_text("half")
    os.kill(os.getpid(), {int(signal.SIGKILL)})

checkpoints.write(Path({str(tmp_path)!r}), "1", save, {{}})
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -signal.SIGKILL
    assert (tmp_path / "1" / "model" / "weights").read_text() == "first"
    assert [name for name in names(tmp_path) if not name.startswith(".")] == ["1"]
    checkpoints.write(tmp_path, "1", writes("second"), {})
    assert (tmp_path / "1" / "model" / "weights").read_text() == "second"
    assert names(tmp_path) == ["1"]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-1"])
def test_write_refuses_invalid_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="^checkpoint .*letters, digits"):
        checkpoints.write(tmp_path, name, writes(""), {})
    assert names(tmp_path) == []


def test_read_passes_the_folder_or_the_single_file_to_the_baseline(tmp_path: Path) -> None:
    got: list[str] = []

    def load(dir_name: str, *others: object) -> None:
        got.append(dir_name)

    def load_file(file_path: str) -> None:
        got.append(file_path)

    (tmp_path / "model").write_text("")
    for function in (load, load_file, got.append):
        checkpoints.read(tmp_path, function)
    (tmp_path / "another").write_text("")
    checkpoints.read(tmp_path, load_file)
    assert got == [str(tmp_path), os.path.join(tmp_path, "model"), str(tmp_path), str(tmp_path)]
