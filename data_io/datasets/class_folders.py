"""Read a folder with one subfolder of images per class."""

from __future__ import annotations

import os
from pathlib import Path

from data_io.datasets.data_set import SPLITS, DataSet, ImageRows, build_data_set, id_below
from data_io.folders import image_files, visible_entries


def read_class_folders(path: Path, merge_labels: bool = False) -> DataSet:
    """Read class folders, or the folders train, query and gallery with class folders in each.

    Args:
        path: the folder.
        merge_labels: join labels that differ only in how they are written.

    Returns:
        The data set.

    Raises:
        ValueError: there is no image, or the folders are named like other splits.
    """
    folders = {entry.name for entry in visible_entries(path) if os.path.isdir(entry.path)}
    if "train" in folders and folders & {"val", "valid", "validation", "test"}:
        raise ValueError(
            f"{path}: has {', '.join(sorted(folders))}; "
            "name the folders train, query and gallery, or write a CSV."
        )
    if "query" not in folders or not folders & {"train", "gallery"}:
        rows = {"train": class_folder_rows(path, path)}
    else:
        splits = [split for split in SPLITS if split in folders]
        rows = {split: class_folder_rows(path / split, path) for split in splits}
    return build_data_set(path, rows, merge_labels=merge_labels)


def class_folder_rows(folder: Path, root: Path) -> ImageRows:
    """List the images below a folder with their classes.

    Args:
        folder: contains the class folders; an image's class is the path of its folder below it.
        root: an image's id is its path below this folder, without suffix.

    Returns:
        The rows of the list.
    """
    rows = ImageRows()
    for file in image_files(folder, rows.skipped):
        class_name = file.parent.relative_to(folder).as_posix()
        if class_name == ".":
            rows.skipped.append((str(file), "not in the folder of a class"))
        else:
            rows.add(id_below(root, file), file, class_name)
    return rows
