"""Numbered checkpoints in a folder: `last-50`, `last-100`, ...; which of them are whole is noted in `last.json`.

TensorFlow's CheckpointManager keeps absolute paths, so that a copied run would delete the files of the original.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_io.artifacts import read_json, write_json

PATTERN_LETTERS = frozenset("*?[]\\")


def readable_prefix(path: str | Path) -> str:
    """Return a path prefix under which TensorFlow can read the checkpoint at `path`.

    Its readers take a path for a pattern and find nothing in a folder named "[2024]", which its writers fill. For such
    a path the files are linked to in a temporary folder.
    """
    path = Path(path)
    if not PATTERN_LETTERS & set(str(path)) or not path.parent.is_dir():
        return str(path)
    folder = Path(tempfile.mkdtemp(prefix="mandoo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in path.parent.iterdir():
        ending = file.name.removeprefix(path.name)
        if file.name.startswith(path.name) and ending[:1] in ("", "."):
            os.symlink(file.absolute(), folder / f"checkpoint{ending}")
    return str(folder / "checkpoint")


class CheckpointFolder:
    """The checkpoints `<name>-<number>` of a folder. A kill while saving leaves the ones before.

    keep: how many of the newest are kept.
    """

    def __init__(self, folder: Path, name: str, keep: int = 2) -> None:
        self.folder, self.name, self.keep = folder, name, keep
        self.note = folder / f"{name}.json"

    def numbers(self) -> list[int]:
        """Return the numbers of the checkpoints, newest last; empty without any. Raises: ValueError on a damaged note."""
        return self._stored()["checkpoints"]

    def _stored(self) -> dict[str, Any]:
        if not self.note.exists():
            return {"checkpoints": [], "facts": {}}
        stored = read_json(self.note)
        numbers = stored.get("checkpoints") if isinstance(stored, dict) else None
        if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
            raise ValueError(f"{self.note}: not a list of checkpoints.")
        return stored

    def path(self, number: int) -> Path:
        """Return the path prefix of a checkpoint."""
        return self.folder / f"{self.name}-{number}"

    def newest(self) -> Path | None:
        """Return the path prefix of the newest checkpoint; None without any."""
        numbers = self.numbers()
        return self.path(numbers[-1]) if numbers else None

    def facts(self) -> dict[str, Any]:
        """Return what the newest checkpoint was saved with; empty without any. Raises: ValueError on a damaged note."""
        return dict(self._stored().get("facts", {}))

    def save(self, number: int, write: Callable[[str], Any], **facts: Any) -> None:
        """Write a checkpoint, note it with its facts, then delete those that are too many.

        Args:
            number: of the checkpoint; one of the same number is replaced.
            write: writes it to a path prefix, such as tf.train.Checkpoint.write.
            facts: JSON data about this checkpoint.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write(str(self.path(number)))
        numbers = [*(other for other in self.numbers() if other != number), number]
        write_json(self.note, {"checkpoints": numbers[-self.keep :], "facts": facts})
        for old in numbers[: -self.keep]:
            for file in self.files(old):
                file.unlink()

    def files(self, number: int) -> list[Path]:
        """Return the files of a checkpoint."""
        start = f"{self.name}-{number}."
        return sorted(
            path for path in self.folder.iterdir() if path.name.startswith(start) and path.is_file()
        )

    def remove(self) -> None:
        """Delete all checkpoints of this name; the note first, so that none is half there."""
        self.note.unlink(missing_ok=True)
        for file in self.folder.glob(f"{self.name}-*") if self.folder.is_dir() else ():
            file.unlink()

    def copy_newest(self, to: Path) -> None:
        """Copy the newest checkpoint to another folder, where it is the only one. Raises: ValueError without any."""
        numbers = self.numbers()
        if not numbers:
            raise ValueError(f"{self.folder}: no checkpoint in it.")
        to.mkdir(parents=True, exist_ok=True)
        for file in self.files(numbers[-1]):
            shutil.copyfile(file, to / file.name)
        write_json(to / self.note.name, {"checkpoints": numbers[-1:], "facts": self.facts()})
