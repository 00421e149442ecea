"""Load a data set of any form."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from data_io.datasets.csv_list import SUFFIXES, read_csv_list
from data_io.datasets.data_set import ACCEPTED_FORMS, DataSet, left_out_details, with_skipped
from data_io.datasets.layout import Reading
from data_io.datasets.layouts import AUTO, choose_layout, folder_of_archive
from data_io.files.archives import is_zip, unpacked
from data_io.files.output_files import expanded


def load_dataset(
    path: str | Path,
    query_split: str = "val",
    merge_labels: bool = False,
    layout: str = AUTO,
) -> DataSet:
    """Read a data set in any of the accepted forms; files are listed, not opened.

    If there are queries but no gallery, the training list is the gallery. If there is a gallery
    but no queries, each gallery image is a query against the others.

    Args:
        path: a folder, a CSV file, or a zip archive of one of them.
        query_split: "val" or "test", which of both holds the queries of a Grocery Store tree, or
            of a CSV file that has both and no other queries.
        merge_labels: join labels that differ only in how they are written (case, white space,
            Unicode form, invisible characters, leading zeros); otherwise they are an error.
        layout: how to read a folder: a name in `data_io.datasets.layouts.NAMES`; "auto" finds out.

    Returns:
        The lists of images.

    Raises:
        ValueError: the path does not exist, there is no image, a list contradicts itself, or a
            folder can be read in several ways. The message is one line with the remedy.
    """
    path = expanded(path)
    reading = Reading(query_split, merge_labels)
    if path.is_dir():
        return _read_folder(path, reading, layout)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: neither a folder nor a regular file. {ACCEPTED_FORMS}")
    if not path.is_file():
        raise ValueError(f"{path}: not found. {ACCEPTED_FORMS}")
    if is_zip(path):
        return _read_archive(path, reading, layout)
    if layout not in (AUTO, "csv"):
        raise ValueError(f"{path}: a file cannot have the layout {layout}. Leave the layout out.")
    data = read_csv_list(path, merge_labels, query_split)
    return dataclasses.replace(data, layout="csv", about="CSV file")


def _read_folder(path: Path, reading: Reading, layout: str) -> DataSet:
    chosen, tree = choose_layout(path, layout)
    data = chosen.read(tree, reading)
    return dataclasses.replace(data, layout=chosen.name, about=data.about or chosen.about)


def _read_archive(path: Path, reading: Reading, layout: str) -> DataSet:
    archive = unpacked(path)
    root = folder_of_archive(archive.folder)
    try:
        data = _read_folder(root, reading, layout)
    except ValueError as error:
        details = left_out_details(archive.skipped)
        raise ValueError(f"{str(error).replace(str(root), str(path))}{details}") from None
    data = dataclasses.replace(
        data,
        name=path.stem,
        about=f"zip archive, {data.about}",
        notes=(*archive.notes, *data.notes),
    )
    return with_skipped(data, archive.skipped)


def is_csv(path: Path) -> bool:
    """Return whether a path is a file with the ending of a table."""
    return path.suffix.lower() in SUFFIXES and path.is_file()
