"""List photographs for work that needs no labels: search, extraction, whitening."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from data_io.datasets.csv_list import read_csv_list
from data_io.datasets.data_set import DataSet, ImageRows
from data_io.datasets.layouts import AUTO
from data_io.datasets.loading import is_csv, load_dataset
from data_io.files.archives import is_zip
from data_io.files.output_files import expanded
from data_io.records import ImageList

# Layouts in which every photograph below the folder belongs to the data.
WHOLE_FOLDERS = ("class_folders", "top_folders", "photographs")


class Listed(NamedTuple):
    """Photographs, and how they were found.

    Attributes:
        images: the photographs, without labels if they are a whole folder.
        read_as: what was read, such as "photographs: 42 images".
        notes: more lines for the user.
    """

    images: ImageList
    read_as: str
    notes: tuple[str, ...] = ()


def list_images(path: str | Path, layout: str = AUTO) -> ImageList:
    """List the images of a folder and its subfolders, of a zip archive, a CSV file, or one image.

    Args:
        path: the folder or file.
        layout: "auto" lists every image of a folder; the name of a layout lists what it reads.

    Returns:
        The images; an id is the path below the folder, without suffix if that is unique.

    Raises:
        ValueError: the path does not exist, or there is no image.
    """
    return listed(path, layout).images


def listed(path: str | Path, layout: str = AUTO) -> Listed:
    """List all images of data in any form; see `list_images`."""
    path = expanded(path)
    if _is_image_file(path):
        rows = ImageRows(labelled=False)
        rows.add(path.stem, path)
        return Listed(rows.build({}), "one photograph")
    if layout == AUTO and not is_csv(path):
        layout = "photographs"
    data = _load(path, layout)
    images = data.gallery if data.layout == "photographs" else _all_images(data)
    return Listed(images, _described(data, images), data.notes)


def listed_gallery(path: str | Path, layout: str = AUTO) -> Listed:
    """List the images to search in: the gallery that the data name, else all images.

    Args:
        path: data in any form.
        layout: how to read a folder; if several ways fit with "auto", all images are listed.

    Returns:
        The images.

    Raises:
        ValueError: the path does not exist, or there is no image.
    """
    path = expanded(path)
    if _is_image_file(path):
        return listed(path)
    try:
        data = _load(path, layout)
    except ValueError:
        if layout != AUTO or is_csv(path):
            raise
        return listed(path)
    if data.layout in WHOLE_FOLDERS or not len(data.gallery):
        return listed(path, layout)
    read_as = f"{data.about}: {len(data.gallery)} gallery images"
    return Listed(data.gallery, read_as, data.notes)


def _is_image_file(path: Path) -> bool:
    return path.is_file() and not is_csv(path) and not is_zip(path)


def _load(path: Path, layout: str) -> DataSet:
    if not path.exists():
        raise ValueError(
            f"{path}: not found. Give an image, a folder of images, a zip archive or a CSV file."
        )
    # How labels are written does not matter here, nor what is a query.
    if is_csv(path) and layout in (AUTO, "csv"):
        data = read_csv_list(path, merge_labels=True, only_images=True)
        return replace(data, layout="csv", about="CSV file")
    return load_dataset(path, merge_labels=True, layout=layout)


def _all_images(data: DataSet) -> ImageList:
    """Return the images of all lists, each once."""
    rows = ImageRows(labelled=False, skipped=list(data.skipped))
    seen: set[str] = set()
    for images in (data.train, data.query, data.gallery):
        for image_id, path in zip(images.ids.tolist(), images.paths.tolist(), strict=True):
            if path not in seen:
                rows.add(image_id, path)
                seen.add(path)
    return rows.build({})


def _described(data: DataSet, images: ImageList) -> str:
    return f"{data.about}: {len(images)} images"
