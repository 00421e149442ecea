"""Find the files that a table names; refuse a table that names few of the files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from data_io.datasets.data_set import ImageRows, without_suffix
from data_io.datasets.file_finder import FileFinder, Found
from data_io.datasets.mismatch import files_below, mismatch
from data_io.tables.spelling import shortened

ENOUGH = 0.5
"""Share of the files of each list that must exist."""


class NamedFiles:
    """Finds the files of a table, and counts those that are missing.

    Attributes:
        table: the file that names them.
        folder: the folder that the names start from.
    """

    def __init__(self, table: Path, folder: Path | None = None) -> None:
        """Start without a file.

        Args:
            table: the file that names files.
            folder: the folder that the names start from; None = the one of the table.
        """
        self.table = table
        self.folder = table.parent if folder is None else folder
        self._finder = FileFinder(self.folder)
        self._num_names: Counter[str] = Counter()
        self._num_other: Counter[str] = Counter()
        self._missing: dict[str, list[str]] = {}

    def find(self, split: str, name: str, rows: ImageRows) -> Found | None:
        """Find a file; add it to the skipped files of the rows if there is none.

        Args:
            split: which list of the data names it.
            name: as in the table.
            rows: the rows of that list.

        Returns:
            The file, or None.
        """
        self._num_names[split] += 1
        found = self._finder.find(name)
        if found is None:
            self._missing.setdefault(split, []).append(name)
            path = os.path.normpath(self.folder / name)
            rows.skipped.append((shortened(path, 300), self._why_missing(name)))
        elif found.how:
            self._num_other[found.how] += 1
        return found

    def add(self, split: str, name: str, class_name: str, rows: ImageRows) -> None:
        """Find a file and add it to the rows of its list.

        Args:
            split: which list of the data names it.
            name: as in the table.
            class_name: its class.
            rows: the rows of that list.
        """
        found = self.find(split, name, rows)
        if found is not None:
            rows.add(without_suffix(found.name), found.path, class_name)

    def notes(self) -> list[str]:
        """Return lines that count missing files, and files that are named in another way.

        Raises:
            ValueError: more than half of the files of a list are missing.
        """
        notes = [
            f"{self.table.name}: {num} files found {how}" for how, num in self._num_other.items()
        ]
        for split, missing in self._missing.items():
            num_names = self._num_names[split]
            self._require_enough(split, num_names, missing)
            notes.append(
                f"{self.table.name}: {len(missing)} of {num_names} {split} files were not found, "
                f"such as {shortened(missing[0])}"
            )
        return notes

    def _why_missing(self, name: str) -> str:
        other = self._finder.in_other_case(name)
        if other is None:
            return "file not found"
        return f"file not found, but {other} is there (upper and lower case)"

    def _require_enough(self, split: str, num_names: int, missing: Sequence[str]) -> None:
        num_found = num_names - len(missing)
        if num_found >= ENOUGH * num_names:
            return
        found = "none" if not num_found else f"only {num_found}"
        message = f"{self.table}: {found} of the {num_names} {split} files exist."
        if sum(map(os.path.isfile, missing)) > len(missing) / 2:
            raise ValueError(
                f"{message} {shortened(missing[0])!r} is relative to the current folder; "
                f"write paths relative to {self._folder_name}."
            )
        difference = mismatch(missing, files_below(self.folder))
        raise ValueError(f"{message} {difference} Paths are relative to {self._folder_name}.")

    @property
    def _folder_name(self) -> str:
        is_of_table = self.folder == self.table.parent
        return "the folder of the table" if is_of_table else str(self.folder)
