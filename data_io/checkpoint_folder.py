"""Manage numbered checkpoints `last-50`, `last-100`, ... in a folder.

`last.json` lists the complete ones. TensorFlow's CheckpointManager is not used, because it stores
absolute paths: a copied run would delete the files of the original.

A checkpoint knows the classes of its classifiers: the data of a run may get other classes later.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_io.files.artifacts import read_json, write_json
from data_io.files.names import is_text

PATTERN_LETTERS = frozenset("*?[]\\")


def readable_prefix(path: str | Path) -> str:
    """Return a path prefix under which TensorFlow can read the checkpoint at `path`.

    TensorFlow's readers treat a path as a pattern, so they find nothing in a folder named "[2024]",
    although its writers can write there; and no path may have a name that is not UTF-8. For such a
    path, links to the files are made in a temporary folder.
    """
    path = Path(path)
    is_plain = is_text(path) and not PATTERN_LETTERS & set(str(path))
    if is_plain or not path.parent.is_dir():
        return str(path)
    folder = _temporary_folder()
    for file in path.parent.iterdir():
        ending = file.name.removeprefix(path.name)
        if file.name.startswith(path.name) and ending[:1] in ("", "."):
            _link(file.absolute(), folder / f"checkpoint{ending}")
    return str(folder / "checkpoint")


def writable_folder(folder: Path) -> str:
    """Return a path under which TensorFlow can write into a folder; create the folder.

    It accepts no name that is not UTF-8: then the path is a link in a temporary folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if is_text(folder):
        return str(folder)
    link = _temporary_folder() / "folder"
    os.symlink(folder.absolute(), link)
    return str(link)


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mandoo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _link(file: Path, place: Path) -> None:
    try:
        os.symlink(file, place)
    except OSError:
        # Windows lets only some users make links.
        shutil.copyfile(file, place)


def classes_of(prefix: Path) -> tuple[str, ...]:
    """Return the classes that a checkpoint of a run says, by row; () if it does not."""
    name, _, number = prefix.name.rpartition("-")
    if not name or not number.isdecimal():
        return ()
    return CheckpointFolder(prefix.parent, name).class_names(int(number))


class CheckpointFolder:
    """The checkpoints `<name>-<number>` of a folder.

    If the process is killed while it saves a checkpoint, or the disk is full, the earlier ones
    remain.
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

    def class_names(self, number: int) -> tuple[str, ...]:
        """Return the classes of a checkpoint's classifiers, by row; () if it does not say."""
        return tuple(self._stored().get("class_names", {}).get(str(number), ()))

    def note_class_names(self, names_of: Callable[[tuple[str, ...]], Sequence[str]]) -> None:
        """Write the classes of each listed checkpoint; its weights are not changed.

        Args:
            names_of: function from the classes that a checkpoint says, () if none, to those to
                write.
        """
        stored = self._stored()
        noted = {
            str(number): list(names_of(self.class_names(number)))
            for number in stored["checkpoints"]
        }
        if noted:
            write_json(self.list_file, {**stored, "class_names": noted})

    def forget_facts(self) -> None:
        """Delete the facts of the newest checkpoint, but not the checkpoint."""
        stored = self._stored()
        if stored.get("facts"):
            write_json(self.list_file, {**stored, "facts": {}})

    def save(
        self,
        number: int,
        write: Callable[[str], Any],
        class_names: Sequence[str] = (),
        **facts: Any,
    ) -> None:
        """Write a checkpoint, list it, then delete the oldest ones.

        Nothing of it is left if this fails.

        Args:
            number: of the checkpoint; one with the same number is replaced.
            write: function that writes it to a path prefix, such as tf.train.Checkpoint.write.
            class_names: classes of its classifiers, by row.
            **facts: JSON data about this checkpoint.
        """
        stored = self._stored()
        numbers = [*(other for other in stored["checkpoints"] if other != number), number]
        kept = numbers[-self.keep :]
        noted = {**stored.get("class_names", {}), str(number): list(class_names)}
        new = self.folder / f".{self.name}.new"
        # A process that was killed while saving may have left it.
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir(parents=True)
            write(os.path.join(writable_folder(new), self.path(number).name))
            # The index comes last: without it, TensorFlow finds no checkpoint.
            for file in sorted(new.iterdir(), key=lambda file: file.suffix == ".index"):
                os.replace(file, self.folder / file.name)
            self._write_list(kept, facts, noted)
        except BaseException:
            if number not in stored["checkpoints"]:
                for file in self.files(number):
                    file.unlink(missing_ok=True)
            raise
        finally:
            shutil.rmtree(new, ignore_errors=True)
        self._delete_all_but(kept)

    def _write_list(
        self, numbers: list[int], facts: Mapping[str, Any], class_names: Mapping[str, Any]
    ) -> None:
        values: dict[str, Any] = {"checkpoints": numbers, "facts": dict(facts)}
        noted = {str(number): class_names.get(str(number)) for number in numbers}
        known = {number: names for number, names in noted.items() if names}
        if known:
            values["class_names"] = known
        write_json(self.list_file, values)

    def _delete_all_but(self, numbers: list[int]) -> None:
        """Delete other checkpoints of this name, also those of a process that was killed."""
        pattern = re.compile(rf"{re.escape(self.name)}-(\d+)\..*")
        for file in self.folder.iterdir():
            match = pattern.fullmatch(file.name)
            if match and int(match[1]) not in numbers:
                file.unlink(missing_ok=True)

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
        number = numbers[-1]
        copy = CheckpointFolder(to, self.name, self.keep)
        copy._write_list([number], self.facts(), {str(number): self.class_names(number)})
