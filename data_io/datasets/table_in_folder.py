"""Read the table in a folder that lists the photographs beside it."""

from __future__ import annotations

from pathlib import Path

from data_io.datasets.csv_list import COLUMNS, read_csv_list
from data_io.datasets.data_set import DataSet
from data_io.datasets.file_finder import FileFinder
from data_io.datasets.layout import Reading
from data_io.datasets.tree import Tree
from data_io.files.system_files import is_system_file
from data_io.tables.csv_rows import read_table


def has_table(tree: Tree) -> bool:
    """Return whether the folder has one CSV file of the columns that names a photograph."""
    return len(_tables_in(tree.root)) == 1


def read_table_in_folder(tree: Tree, reading: Reading) -> DataSet:
    """Read the CSV file of a folder.

    Args:
        tree: the folder.
        reading: how to read it.

    Returns:
        The data set.

    Raises:
        ValueError: there is not exactly one such file, or it is wrong.
    """
    files = _tables_in(tree.root)
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise ValueError(
            f"{tree.root}: needs one CSV file with the columns {','.join(COLUMNS)}; found {names}. "
            "Pass the file as the data."
        )
    return read_csv_list(files[0], reading.merge_labels, reading.query_split)


def _tables_in(folder: Path) -> list[Path]:
    """Return the CSV files that have the columns, and whose first photograph exists."""
    files = [file for file in sorted(folder.glob("*.[cC][sS][vV]")) if file.is_file()]
    return [file for file in files if not is_system_file(file.name) and _names_an_image(file)]


def _names_an_image(file: Path) -> bool:
    try:
        table = read_table(file, COLUMNS)
    except (ValueError, OSError):
        return False
    first = table.rows[0][1]["path"] if table.rows else ""
    return bool(first) and FileFinder(file.parent).find(first) is not None
