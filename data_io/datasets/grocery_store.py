"""Read the Grocery Store data set.

Source: Klasson et al. 2019, arXiv:1901.00711,
https://github.com/marcusklasson/GroceryStoreDataset
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from data_io.datasets.data_set import DataSet, ImageRows, build_data_set
from data_io.datasets.layout import Reading
from data_io.datasets.named_files import NamedFiles
from data_io.datasets.tree import Tree
from data_io.tables.csv_rows import read_list, read_table
from data_io.tables.spelling import without_zeros

COARSE_COLUMN = "Coarse Class Name (str)"


def is_grocery_tree(path: Path) -> bool:
    """Return whether the folder has the lists of the Grocery Store data set."""
    return (path / "train.txt").is_file() and (path / "classes.csv").is_file()


def has_grocery_tree(tree: Tree) -> bool:
    """Return whether the folder, or the folder dataset in it, has the lists."""
    return any(map(is_grocery_tree, (tree.root, tree.root / "dataset")))


def read_grocery(tree: Tree, reading: Reading) -> DataSet:
    """Read the lists in the folder, or in the folder dataset in it.

    Args:
        tree: the folder.
        reading: how to read it.

    Returns:
        The data set.

    Raises:
        ValueError: a list is missing or wrong.
    """
    if not has_grocery_tree(tree):
        raise ValueError(f"{tree.root}: no train.txt and classes.csv, as Grocery Store has them.")
    root = tree.root if is_grocery_tree(tree.root) else tree.root / "dataset"
    return read_grocery_tree(root, reading.query_split, reading.merge_labels)


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
    class_names, coarse_of, class_notes = _read_classes(tree / "classes.csv")
    train, notes = _read_list(tree / "train.txt", class_names)
    query, query_notes = _read_list(query_file, class_names)
    splits = {"train": train, "query": query}
    root = tree.parent if Path(os.path.abspath(tree)).name == "dataset" else tree
    data = build_data_set(
        root, splits, class_names, merge_labels, [*class_notes, *notes, *query_notes]
    )
    if not coarse_of:
        return data
    coarse = tuple(coarse_of[name] for name in data.class_names)
    return replace(data, levels={"coarse": coarse})


def _read_classes(path: Path) -> tuple[list[str], dict[str, str], list[str]]:
    """Return class names by id, class -> coarse name (empty without that column), and notes."""
    name_column = "Class Name (str)"
    id_column = "Class ID (int)"
    table = read_table(path, (name_column, id_column), (COARSE_COLUMN,))
    rows = [row for _, row in table.rows]
    names = {without_zeros(row[id_column]): row[name_column] for row in rows}
    expected_ids = {str(label) for label in range(len(rows))}
    if set(names) != expected_ids or len(set(names.values())) != len(rows):
        raise ValueError(
            f"{path}: class ids must run from 0 without a gap, and class names must differ."
        )
    coarse_of = {row[name_column]: row.get(COARSE_COLUMN, "") for row in rows}
    if not all(coarse_of.values()):
        coarse_of = {}
    return [names[str(label)] for label in range(len(rows))], coarse_of, table.notes


def _read_list(path: Path, class_names: Sequence[str]) -> tuple[ImageRows, list[str]]:
    """Read lines `path, fine label, coarse label`; return the rows, and lines for the user."""
    rows = ImageRows()
    files = NamedFiles(path)
    table = read_list(path, 3)
    for line, cells in table.rows:
        name, *labels = cells.values()
        label = without_zeros(labels[0]) if len(labels) == 2 else ""
        if not label.isdecimal() or int(label) >= len(class_names):
            last_label = len(class_names) - 1
            text = ", ".join(cells.values())
            raise ValueError(
                f"{path}, line {line}: expected `path, class 0..{last_label}, coarse class`. "
                f"Received {text!r}."
            )
        files.add(path.stem, name, class_names[int(label)], rows)
    return rows, [*table.notes, *files.notes()]
