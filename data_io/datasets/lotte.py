"""Read the tree of the Lotte product-classification competition.

train.csv    path,label; a path starts from a folder beside the data: ../data/train/953/5.jpg
sample.csv   filename,prediction: the test photographs, which have no label
train/, test/
"""

from __future__ import annotations

import re
from pathlib import Path

from data_io.datasets.data_set import DataSet, ImageRows, build_data_set, without_suffix
from data_io.datasets.layout import Reading
from data_io.datasets.named_files import NamedFiles
from data_io.datasets.tree import Tree
from data_io.tables.csv_rows import read_table

TRAIN_TABLE = "train.csv"
SAMPLE_TABLE = "sample.csv"
TRUTH_TABLE = "truth.csv"
"""Labels of the test photographs: filename,label. Only a folder above the data has it."""
SAMPLE_COLUMNS = ("filename", "prediction")


def is_lotte(tree: Tree) -> bool:
    """Return whether the folder, or `data` in it, has the tables of the competition."""
    return _has_tables(tree.root) or _has_tables(tree.root / "data")


def _has_tables(folder: Path) -> bool:
    has_files = all((folder / name).is_file() for name in (TRAIN_TABLE, SAMPLE_TABLE))
    return has_files and (folder / "test").is_dir()


def read_lotte(tree: Tree, reading: Reading) -> DataSet:
    """Read train.csv, and sample.csv as the queries; they are searched in the training images.

    The queries have labels only if `tree` is the folder above the data, and has a truth.csv.

    Args:
        tree: the folder of the tables, or the one above.
        reading: how to read it.

    Returns:
        The data set.

    Raises:
        ValueError: a table is missing or wrong, or few of its files exist.
    """
    if not is_lotte(tree):
        raise ValueError(
            f"{tree.root}: needs {TRAIN_TABLE}, {SAMPLE_TABLE} and the folder test, in it or in "
            "its folder data. Pass the folder of the competition, or leave its layout out."
        )
    root = tree.root if _has_tables(tree.root) else tree.root / "data"
    truth = tree.root / TRUTH_TABLE
    label_of = _truth(truth) if root != tree.root and truth.is_file() else None
    unlabelled: list[str] = []
    train = ImageRows()
    files = NamedFiles(root / TRAIN_TABLE)
    table = read_table(root / TRAIN_TABLE, ("path", "label"))
    for _, row in table.rows:
        files.add("train", _from_root(row["path"]), row["label"], train)
    query = ImageRows(labelled=label_of is not None, sorted_by_class=False)
    samples = NamedFiles(root / SAMPLE_TABLE, root / "test")
    sample_table = read_table(root / SAMPLE_TABLE, SAMPLE_COLUMNS[:1])
    for _, row in sample_table.rows:
        found = samples.find("query", row["filename"], query)
        if found is not None:
            class_name = (label_of or {}).get(row["filename"], "")
            if label_of is not None and not class_name:
                unlabelled.append(row["filename"])
            query.add(f"test/{without_suffix(found.name)}", found.path, class_name)
    notes = [*table.notes, *files.notes(), *sample_table.notes, *samples.notes()]
    if unlabelled:
        notes.append(
            f"{TRUTH_TABLE}: no label for {len(unlabelled)} of the {len(query.found)} photographs "
            f"of {SAMPLE_TABLE}, such as {unlabelled[0]}"
        )
    lists = {"train": train, "query": query}
    return build_data_set(root, lists, merge_labels=reading.merge_labels, notes=notes)


def _from_root(name: str) -> str:
    """Return a path of train.csv as a path from the folder of the table."""
    return re.sub(r"^\.\.[/\\]data[/\\]", "", name)


def _truth(path: Path) -> dict[str, str]:
    """Return the label of each test photograph, by its name in sample.csv."""
    label_of: dict[str, str] = {}
    for line, row in read_table(path, ("filename", "label")).rows:
        name, label = row["filename"], row["label"]
        if label_of.setdefault(name, label) != label:
            raise ValueError(f"{path}, line {line}: a second label for {name}; keep one.")
    return label_of
