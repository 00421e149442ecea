"""Read a CSV file with the columns path,label,split[,group]."""

from __future__ import annotations

import os
from pathlib import Path

from data_io.csv_rows import csv_rows
from data_io.datasets.data_set import (
    ACCEPTED_FORMS,
    SPLITS,
    DataSet,
    ImageRows,
    build_data_set,
    without_suffix,
)


def read_csv_list(path: Path, merge_labels: bool = False) -> DataSet:
    """Read a CSV file; paths are relative to its folder.

    Args:
        path: the file.
        merge_labels: join labels that differ only in how they are written.

    Returns:
        The data set.

    Raises:
        ValueError: the file is not such a CSV, a split is unknown, or an image has two labels.
    """
    if path.suffix.lower() != ".csv":
        raise ValueError(f"{path}: a file, but not a CSV. {ACCEPTED_FORMS}")
    splits: dict[str, ImageRows] = {}
    # For each file the line in which it first appears, and its label there.
    first_of: dict[str, tuple[int, str]] = {}
    line_of: dict[tuple[str, str], int] = {}
    for line, row in csv_rows(path, ("path", "label", "split")):
        split = row["split"]
        name = row["path"]
        class_name = row["label"]
        if split not in SPLITS:
            received = repr(split) if split else "nothing"
            raise ValueError(
                f"{path}, line {line}: column split must be train, query or gallery. "
                f"Received {received}."
            )
        rows = splits.setdefault(split, ImageRows(grouped="group" in row))
        file = os.path.normpath(path.parent / name)
        if not name:
            rows.skipped.append((f"{path}, line {line}", "no path"))
            continue
        first_line, first_class = first_of.setdefault(file, (line, class_name))
        if first_class != class_name:
            labels = f"{first_class!r} in line {first_line} and {class_name!r} in line {line}"
            raise ValueError(f"{path}: {name} has label {labels}; keep one.")
        earlier_line = line_of.setdefault((split, file), line)
        if earlier_line != line:
            rows.skipped.append((file, f"line {line}: already in line {earlier_line}"))
        elif not os.path.isfile(file):
            rows.skipped.append((file, "file not found"))
        else:
            rows.add(without_suffix(name), file, class_name, row.get("group", ""))
    return build_data_set(path, splits, merge_labels=merge_labels)
