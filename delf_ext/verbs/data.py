"""Load the data that the flags name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet, load_dataset
from data_io.messages import shown_path
from data_io.progress import say
from delf_ext import nsml
from delf_ext.app.data import draw_products


def resolve_data(flags: Any) -> str:
    """Return the path of the data, and print it unless it is --data.

    The first of these that exists: --data; NSML's DATASET_PATH; with --debug: --debug_data. If
    none exists, products are drawn into the cache folder.
    """
    if flags.data:
        return str(flags.data)
    platform_path = os.environ.get("DATASET_PATH") or nsml.DATASET_PATH
    if platform_path:
        say(f"data: {shown_path(platform_path)} (NSML's DATASET_PATH)")
        return platform_path
    if flags.debug and Path(flags.debug_data).exists():
        say(f"data: {shown_path(flags.debug_data)} (--debug_data)")
        return str(flags.debug_data)
    path = draw_products(None, 40 if flags.debug else 100, seed=0)
    say(f"data: {shown_path(path)} (drawn products; pass --data for your own)")
    return str(path)


def name_of(data: DataSet, flags: Any) -> str:
    """Return the name of the data in figures and on pages: --data if it was passed."""
    return shown_path(flags.data) if flags.data else data.name


def load(flags: Any) -> DataSet:
    """Return the data set of a verb. Raises ValueError if it cannot be read."""
    return load_from(resolve_data(flags), flags)


def load_from(path: str, flags: Any) -> DataSet:
    """Return the data set at a path, and print how it was read.

    Raises:
        ValueError: if it cannot be read.
    """
    data = load_dataset(path, flags.query_split, flags.merge_labels)
    for note in data.notes:
        say(note)
    return data
