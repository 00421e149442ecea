"""Manage numbered checkpoints `last-50`, `last-100`, ... in a folder.

`last.json` lists the complete ones. TensorFlow's CheckpointManager is not used, because it stores
absolute paths: a copied run would delete the files of the original.
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

    TensorFlow's readers treat a path as a pattern, so they find nothing in a folder named "[2024]",
    although its writers can write there. For such a path, links to the files are made in a
    temporary folder.
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
    """The checkpoints `<name>-<number>` of a folder.

    If the process is killed while it saves a checkpoint, the earlier ones remain.
    """

    def __init__(self, folder: Path, name: str, keep: int = 2) -> None:
        """Describe the checkpoints; nothing is read or written.

        Args:
            folder: of the checkpoints.
            name: start of the file names.
            keep: number of checkpoints to keep; older ones are deleted.
        """
        self.folder = folder
        self.name = name
        self.keep = keep
        self.list_file = folder / f"{name}.json"

    def numbers(self) -> list[int]:
        """Return the numbers of the checkpoints, the newest last.

        Returns:
            The numbers; empty if there is no checkpoint.

        Raises:
            ValueError: the list of checkpoints is damaged.
        """
        return self._stored()["checkpoints"]

    def _stored(self) -> dict[str, Any]:
        if not self.list_file.exists():
            return {"checkpoints": [], "facts": {}}
        stored = read_json(self.list_file)
        numbers = stored.get("checkpoints") if isinstance(stored, dict) else None
        if not isinstance(numbers, list) or not all(isinstance(number, int) for number in numbers):
            raise ValueError(f"{self.list_file}: not a list of checkpoints.")
        return stored

    def path(self, number: int) -> Path:
        """Return the path prefix of a checkpoint."""
        return self.folder / f"{self.name}-{number}"

    def newest(self) -> Path | None:
        """Return the path prefix of the newest checkpoint; None if there is no checkpoint."""
        numbers = self.numbers()
        return self.path(numbers[-1]) if numbers else None

    def facts(self) -> dict[str, Any]:
        """Return the facts of the newest checkpoint; empty if there is no checkpoint."""
        return dict(self._stored().get("facts", {}))

    def save(self, number: int, write: Callable[[str], Any], **facts: Any) -> None:
        """Write a checkpoint, list it, then delete the oldest ones.

        Args:
            number: of the checkpoint; one with the same number is replaced.
            write: function that writes it to a path prefix, such as tf.train.Checkpoint.write.
            **facts: JSON data about this checkpoint.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        write(str(self.path(number)))
        numbers = [*(other for other in self.numbers() if other != number), number]
        write_json(self.list_file, {"checkpoints": numbers[-self.keep :], "facts": facts})
        for old in numbers[: -self.keep]:
            for file in self.files(old):
                file.unlink()

    def files(self, number: int) -> list[Path]:
        """Return the files of a checkpoint."""
        return sorted(self.folder.glob(f"{self.name}-{number}.*"))

    def remove(self) -> None:
        """Delete all checkpoints of this name."""
        # The list goes first, so that it never contains an incomplete checkpoint.
        self.list_file.unlink(missing_ok=True)
        if self.folder.is_dir():
            for file in self.folder.glob(f"{self.name}-*"):
                file.unlink()

    def copy_newest(self, to: Path) -> None:
        """Copy the newest checkpoint to another folder.

        Args:
            to: the folder; it is created if needed.

        Raises:
            ValueError: there is no checkpoint.
        """
        numbers = self.numbers()
        if not numbers:
            raise ValueError(f"{self.folder}: no checkpoint in it.")
        to.mkdir(parents=True, exist_ok=True)
        for file in self.files(numbers[-1]):
            shutil.copyfile(file, to / file.name)
        write_json(to / self.list_file.name, {"checkpoints": numbers[-1:], "facts": self.facts()})
