"""Read the Grocery Store data set.

Source: Klasson et al. 2019, arXiv:1901.00711,
https://github.com/marcusklasson/GroceryStoreDataset
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from data_io.csv_rows import csv_rows
from data_io.datasets.data_set import DataSet, ImageRows, build_data_set, without_suffix


def is_grocery_tree(path: Path) -> bool:
    """Return whether the folder has the lists of the Grocery Store data set."""
    return (path / "train.txt").is_file() and (path / "classes.csv").is_file()


def read_grocery_tree(tree: Path, query_split: str, merge_labels: bool = False) -> DataSet:
    """Read train.txt, and val.txt or test.txt as queries.

    Args:
        tree: the folder with the lists.
        query_split: "val" or "test".
        merge_labels: join labels that differ only in how they are written.

    Returns:
        The data set; its gallery is the training list.

    Raises:
        ValueError: a list is missing or wrong, or `query_split` is unknown.
    """
    if query_split not in ("val", "test"):
        raise ValueError(f"query_split must be val or test. Received {query_split!r}.")
    query_file = tree / f"{query_split}.txt"
    if not query_file.is_file():
        names = ", ".join(sorted(file.name for file in tree.glob("*.txt")))
        raise ValueError(f"{query_file}: not found; this copy has {names}.")
    class_names = _read_classes(tree / "classes.csv")
    splits = {
        "train": _read_list(tree / "train.txt", class_names),
        "query": _read_list(query_file, class_names),
    }
    root = tree.parent if Path(os.path.abspath(tree)).name == "dataset" else tree
    return build_data_set(root, splits, class_names, merge_labels)


def _read_classes(path: Path) -> list[str]:
    name_column = "Class Name (str)"
    id_column = "Class ID (int)"
    rows = [row for _, row in csv_rows(path, (name_column, id_column))]
    names = {row[id_column]: row[name_column] for row in rows}
    expected_ids = {str(label) for label in range(len(rows))}
    if set(names) != expected_ids or len(set(names.values())) != len(rows):
        raise ValueError(
            f"{path}: class ids must run from 0 without a gap, and class names must differ."
        )
    return [names[str(label)] for label in range(len(rows))]


def _read_list(path: Path, class_names: Sequence[str]) -> ImageRows:
    """Read lines `path, fine label, coarse label`."""
    rows = ImageRows()
    for line, text in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not text.strip():
            continue
        name, *labels = (cell.strip() for cell in text.split(","))
        if len(labels) != 2 or not labels[0].isdecimal() or int(labels[0]) >= len(class_names):
            last_label = len(class_names) - 1
            raise ValueError(
                f"{path}, line {line}: expected `path, class 0..{last_label}, coarse class`. "
                f"Received {text!r}."
            )
        file = path.parent / name
        if file.is_file():
            rows.add(without_suffix(name), file, class_names[int(labels[0])])
        else:
            rows.skipped.append((str(file), "file not found"))
    return rows
