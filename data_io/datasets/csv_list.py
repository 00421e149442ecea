"""Read a table with the columns path,label,split[,group]."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from data_io.datasets.data_set import (
    ACCEPTED_FORMS,
    SPLITS,
    DataSet,
    ImageRows,
    build_data_set,
    without_suffix,
)
from data_io.datasets.file_finder import place_of
from data_io.datasets.named_files import NamedFiles
from data_io.datasets.split_column import is_row, part_of, roles_of
from data_io.files.skipped_files import NO_PATH
from data_io.tables.csv_rows import read_table
from data_io.tables.spelling import spelling_key, visible

COLUMNS = ("path", "label", "split")
SUFFIXES = (".csv", ".tsv", ".tab", ".txt")
SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
# Files that are looked up to find the folder that a linked table is about.
NUM_TRIED = 20
# What people and programs write for a missing value. It stays a label, but the user is told.
MISSING_VALUES = frozenset(
    {"nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "-1", "unknown", "?", "-"}
)


def read_csv_list(
    path: Path, merge_labels: bool = False, query_split: str = "val", only_images: bool = False
) -> DataSet:
    """Read a table; paths are relative to its folder.

    Args:
        path: the file.
        merge_labels: join labels that differ only in how they are written.
        query_split: "val" or "test", the queries of a table that has both and no others.
        only_images: whether the columns label and split can be missing, for work that needs neither
            of them; an image that is neither query nor in the gallery is then a training image.

    Returns:
        The data set. An image with an empty label has no label.

    Raises:
        ValueError: the file is not such a table, a split is unknown, an image has two labels, or
            few of the files exist.
    """
    if path.suffix.lower() in SPREADSHEETS:
        raise ValueError(f"{path}: a spreadsheet; save it as CSV UTF-8, and pass that file.")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: a file, but not a CSV. {ACCEPTED_FORMS}")
    required = COLUMNS[:1] if only_images else COLUMNS
    table = read_table(path, required, ("group", *COLUMNS[len(required) :]), is_row)
    if not table.rows:
        raise ValueError(f"{path}: no line below the header. Add a line for each photograph.")
    parts = [part_of(path, line, row.get("split", "train")) for line, row in table.rows]
    if only_images:
        roles = {part: part if part in SPLITS else "train" for part in parts}
        notes: list[str] = []
    else:
        roles, notes = roles_of(path, parts, query_split)
    reader = _Reader(path, _folder_of(path, [row["path"] for _, row in table.rows]))
    for part, (line, row) in zip(parts, table.rows, strict=True):
        if part in roles:
            reader.add(roles[part], line, row)
    notes = [*table.notes, *notes, *reader.notes()]
    return build_data_set(path, reader.splits, merge_labels=merge_labels, notes=notes)


def _folder_of(path: Path, names: list[str]) -> Path:
    """Return the folder of a table; of a link, that of its target if more files are there."""
    if not path.is_symlink():
        return path.parent
    target = Path(os.path.realpath(path)).parent
    num_here, num_there = (
        sum((folder / name).is_file() for name in names[:NUM_TRIED])
        for folder in (path.parent, target)
    )
    return target if num_there > num_here else path.parent


@dataclass
class _Reader:
    """Collects the rows of a table, list by list.

    Attributes:
        path: of the table.
        folder: the folder that paths start from.
        splits: the rows of "train", "query" and "gallery".
    """

    path: Path
    folder: Path
    splits: dict[str, ImageRows] = field(default_factory=dict)
    # For each file the line in which it first appears, and its label there.
    _first_of: dict[str, tuple[int, str]] = field(default_factory=dict)
    _line_of: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._files = NamedFiles(self.path, self.folder)

    def add(self, split: str, line: int, row: dict[str, str]) -> None:
        """Add a row, or list it as skipped. Raises ValueError if its file has another label."""
        rows = self.splits.setdefault(split, ImageRows(grouped="group" in row))
        name = row["path"]
        if not name:
            rows.skipped.append((f"{self.path}, line {line}", NO_PATH))
            return
        found = self._files.find(split, name, rows)
        if found is None:
            return
        label = row.get("label", "")
        class_name = label if visible(label).strip() else ""
        place = place_of(found.path)
        self._require_one_label(place, name, line, class_name)
        first_line = self._line_of.setdefault((split, place), line)
        if first_line != line:
            rows.skipped.append((found.path, f"line {line}: already in line {first_line}"))
            return
        rows.add(without_suffix(found.name), found.path, class_name, row.get("group", ""))

    def _require_one_label(self, place: str, name: str, line: int, class_name: str) -> None:
        first_line, first_class = self._first_of.setdefault(place, (line, class_name))
        if first_class == class_name:
            return
        if spelling_key(first_class) != spelling_key(class_name):
            labels = f"{first_class!r} in line {first_line} and {class_name!r} in line {line}"
            raise ValueError(f"{self.path}: {name} has label {labels}; keep one.")

    def notes(self) -> list[str]:
        """Return lines for the user. Raises ValueError if few of the files exist."""
        return [*self._files.notes(), *self._missing_value_notes()]

    def _missing_value_notes(self) -> list[str]:
        num_rows = Counter(
            row.class_name for rows in self.splits.values() for row in rows.found.values()
        )
        return [
            f"{self.path.name}: {num_rows[name]} rows have the label {name!r}; if it means no "
            "label, leave the cell empty"
            for name in sorted(num_rows)
            if spelling_key(name) in MISSING_VALUES
        ]
