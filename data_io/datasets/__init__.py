"""Read a data set from disk: class folders, CSV, challenge tree or Grocery Store tree.

Everything is sorted, so two runs see the same order. A file that cannot be used is skipped and
listed with its reason.
"""

from __future__ import annotations

from pathlib import Path

from data_io.datasets.challenge import is_challenge_tree, read_challenge_tree
from data_io.datasets.class_folders import read_class_folders
from data_io.datasets.csv_list import read_csv_list
from data_io.datasets.data_set import (
    ACCEPTED_FORMS,
    DataSet,
    ImageRows,
    id_below,
    left_out_details,
)
from data_io.datasets.grocery_store import is_grocery_tree, read_grocery_tree
from data_io.folders import image_files
from data_io.records import ImageList

__all__ = ["ACCEPTED_FORMS", "DataSet", "list_images", "load_dataset"]


def load_dataset(path: str | Path, query_split: str = "val", merge_labels: bool = False) -> DataSet:
    """Read a data set in any of the accepted forms; files are listed, not opened.

    If there are queries but no gallery, the training list is the gallery.

    Args:
        path: a folder or a CSV file.
        query_split: "val" or "test", which of both holds the queries of a Grocery Store tree, or
            of a CSV file that has both and no other queries.
        merge_labels: join labels that differ only in how they are written (case, white space,
            Unicode form, invisible characters, leading zeros); otherwise they are an error.

    Returns:
        The lists of images.

    Raises:
        ValueError: the path does not exist, there is no image, or a list contradicts itself. The
            message is one line with the remedy.
    """
    path = Path(path)
    if path.is_file():
        return read_csv_list(path, merge_labels, query_split)
    if not path.is_dir():
        raise ValueError(f"{path}: not found. {ACCEPTED_FORMS}")
    for tree in (path, path / "dataset"):
        if is_grocery_tree(tree):
            return read_grocery_tree(tree, query_split, merge_labels)
    if is_challenge_tree(path):
        return read_challenge_tree(path, merge_labels)
    return read_class_folders(path, merge_labels)


def list_images(path: str | Path) -> ImageList:
    """List the images of a folder and its subfolders, or a single image, without labels.

    Args:
        path: a folder or an image file.

    Returns:
        The images; an id is the path below the folder, without suffix.

    Raises:
        ValueError: the path does not exist, or there is no image.
    """
    path = Path(path)
    rows = ImageRows(labelled=False)
    if path.is_file():
        rows.add(path.stem, path)
    elif path.is_dir():
        for file in image_files(path, rows.skipped):
            rows.add(id_below(path, file), file)
    else:
        raise ValueError(f"{path}: not found. Give an image or a folder of images.")
    if not rows.rows:
        raise ValueError(f"{path}: no image in it{left_out_details(rows.skipped)}.")
    return rows.build({})
