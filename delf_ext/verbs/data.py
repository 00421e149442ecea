"""Load the data that the flags name."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from data_io.datasets import DataSet, listed, listed_gallery, load_dataset
from data_io.datasets.layouts import AUTO
from data_io.datasets.listing import Listed
from data_io.messages import shown_path
from data_io.progress import say
from data_io.records import ImageList
from delf_ext import nsml
from delf_ext.app.data import draw_products


class Source(NamedTuple):
    """Where the data of a verb are.

    Attributes:
        path: path of the data.
        origin: why this path was taken; "" for --data.
    """

    path: str
    origin: str = ""


def resolve_data(flags: Any) -> Source:
    """Return where the data are.

    The first of these that exists: --data; NSML's DATASET_PATH; with --debug: --debug_data. If
    none exists, products are drawn into the cache folder.
    """
    if flags.data:
        return Source(str(flags.data))
    platform_path = os.environ.get("DATASET_PATH") or nsml.DATASET_PATH
    if platform_path:
        return Source(platform_path, "NSML's DATASET_PATH")
    if flags.debug and Path(flags.debug_data).exists():
        return Source(str(flags.debug_data), "--debug_data")
    path = draw_products(None, 40 if flags.debug else 100, seed=0)
    return Source(str(path), "drawn products; pass --data for your own")


def name_of(data: DataSet, flags: Any) -> str:
    """Return the name of the data in figures and on pages: --data if it was passed."""
    return shown_path(flags.data) if flags.data else data.name


def load(flags: Any) -> DataSet:
    """Return the data set of a verb, and print how it was read.

    Raises:
        ValueError: if it cannot be read.
    """
    return load_from(resolve_data(flags), flags)


def load_from(source: Source, flags: Any, layout: str = AUTO) -> DataSet:
    """Return the data set at a path, and print how it was read.

    Args:
        source: where it is.
        flags: the flags of a verb.
        layout: how to read a folder, unless --data_layout says it.

    Returns:
        The data set.

    Raises:
        ValueError: if it cannot be read.
    """
    if flags["data_layout"].present:
        layout = flags.data_layout
    data = load_dataset(source.path, flags.query_split, flags.merge_labels, layout)
    _print_reading(source, data.read_as, data.notes)
    return data


def load_images(flags: Any) -> ImageList:
    """Return all images of --data, for work without labels, and print how they were read.

    Raises:
        ValueError: if there is none.
    """
    return _shown(listed(flags.data, flags.data_layout), flags)


def load_gallery(flags: Any) -> ImageList:
    """Return the images of --data to search in, and print how they were read.

    Raises:
        ValueError: if there is none.
    """
    return _shown(listed_gallery(flags.data, flags.data_layout), flags)


def _shown(found: Listed, flags: Any) -> ImageList:
    _print_reading(Source(flags.data), found.read_as, found.notes)
    return found.images


def _print_reading(source: Source, read_as: str, notes: Iterable[str]) -> None:
    where = f", {shown_path(source.path)} ({source.origin})" if source.origin else ""
    say(f"data: {read_as}{where}")
    for note in notes:
        say(note)
