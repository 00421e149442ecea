"""Define what a layout of a data folder is."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from data_io.datasets.data_set import DataSet
from data_io.datasets.tree import Tree


class Reading(NamedTuple):
    """How to read a data set.

    Attributes:
        query_split: "val" or "test", the list of a Grocery Store tree that gives the queries.
        merge_labels: join labels that differ only in how they are written.
    """

    query_split: str = "val"
    merge_labels: bool = False


class Layout(NamedTuple):
    """One way to read a folder.

    Attributes:
        name: value of `--data_layout`.
        about: what the folder is, for the first line of output.
        fits: returns whether a folder can be read this way.
        read: reads a folder.
        is_sure: its files or names can mean nothing else, so a folder that fits is not asked about.
    """

    name: str
    about: str
    fits: Callable[[Tree], bool]
    read: Callable[[Tree, Reading], DataSet]
    is_sure: bool = False
