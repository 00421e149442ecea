"""Read folders named train, query and gallery (or kin), with class folders in each."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from data_io.datasets.class_folders import (
    class_folder_rows,
    classes_of,
    folder_notes,
    has_repeated_folders,
)
from data_io.datasets.data_set import DataSet, ImageRows, build_data_set, counted
from data_io.datasets.layout import Reading
from data_io.datasets.split_column import WORDS
from data_io.datasets.tree import Tree
from data_io.files.folders import visible_entries
from data_io.tables.spelling import nfkc, visible

# Names that only folders have, in any case, beside the words in the column split of a table.
FOLDER_NAMES = {
    "train": ("train_set", "bounding_box_train", "image_train"),
    "query": ("image_query",),
    "gallery": ("bounding_box_test", "image_test"),
    "test": ("test_set",),
}
SPLIT_NAMES = {part: (*words, *FOLDER_NAMES.get(part, ())) for part, words in WORDS.items()}
PART_OF = {name: part for part, names in SPLIT_NAMES.items() for name in names}

Parts = dict[str, str]
"""Part of the data set -> name of its folder."""


def part_named(folder: str) -> str | None:
    """Return the part of a data set that a folder is named like, in any case and width.

    >>> part_named("Probe"), part_named("milk")
    ('query', None)
    """
    return PART_OF.get(visible(nfkc(folder)).strip().casefold())


def part_folders(tree: Tree) -> Parts:
    """Return the folder of each part that has photographs.

    Raises:
        ValueError: two folders are named like the same part.
    """
    parts: Parts = {}
    for name in tree.folders:
        part = part_named(name)
        if part is None or not tree.files(name):
            continue
        if part in parts:
            raise ValueError(
                f"{tree.root}: {parts[part]} and {name} are both named like the {part} images. "
                "Rename one of them, or write a CSV."
            )
        parts[part] = name
    return parts


def other_folders(tree: Tree) -> list[str]:
    """Return the folders with photographs that are not named like a part of a data set."""
    names = [name for name in tree.folders if part_named(name) is None]
    return [name for name in names if tree.files(name)]


def data_sets_in(tree: Tree) -> list[str]:
    """Return the folders of the root that hold folders named like several parts of a data set."""
    return [name for name in tree.folders if len(_parts_named(tree.root / name)) > 1]


def _parts_named(folder: Path) -> set[str]:
    try:
        entries = visible_entries(folder)
    except OSError:
        return set()
    parts = [part_named(entry.name) for entry in entries if os.path.isdir(entry.path)]
    return {part for part in parts if part is not None}


def has_parts(tree: Tree) -> bool:
    """Return whether folders are named like the parts of a data set."""
    names = [name for name in tree.folders if part_named(name) and tree.files(name)]
    if len(names) == 1 and not tree.has_class_folders(names[0]):
        # A class can be named so: bus, car, train.
        return not other_folders(tree) and not tree.loose
    return bool(names)


def are_classes(tree: Tree) -> bool:
    """Return whether the folders can be classes, although some are named like parts."""
    return not has_parts(tree) or bool(other_folders(tree))


def has_query_and_gallery(tree: Tree) -> bool:
    """Return whether names say what are queries and what is the gallery."""
    return has_parts(tree) and roles_of(part_folders(tree)) is not None


def has_repeated_parts(tree: Tree) -> bool:
    """Return whether the class folders of a part have folders of the same few names."""
    return any(has_repeated_folders(tree, folder) for folder in part_folders(tree).values())


def roles_of(parts: Parts) -> Parts | None:
    """Return the folders of train, query and gallery, or None if the names leave it open.

    Without queries, the images of the gallery are the queries too.
    """
    roles = {part: name for part, name in parts.items() if part in ("train", "query", "gallery")}
    held_out = [part for part in ("val", "test") if part in parts]
    if "gallery" in roles and "query" not in roles and len(held_out) == 1:
        roles["query"] = parts[held_out[0]]
    elif "query" in roles and "gallery" not in roles and "test" in parts:
        roles["gallery"] = parts["test"]
    elif held_out and "query" not in roles and "gallery" not in roles:
        return None
    return roles


def read_query_and_gallery(tree: Tree, reading: Reading, top_only: bool = False) -> DataSet:
    """Read the folders of train, query and gallery.

    Args:
        tree: the folder.
        reading: how to read it.
        top_only: a class is the first folder, not the whole path.

    Returns:
        The data set.

    Raises:
        ValueError: the names leave open what are queries, or training images have no class.
    """
    roles = roles_of(part_folders(tree))
    if not roles:
        raise ValueError(
            f"{tree.root}: no folder is named {_any_of('query')}, {_any_of('gallery')} or "
            f"{_any_of('train')}. Rename the folders, or write a CSV."
        )
    return read_roles(tree, roles, reading, top_only)


def read_roles(tree: Tree, roles: Parts, reading: Reading, top_only: bool = False) -> DataSet:
    """Read the folder of each list. If query and gallery are one folder, it is read once.

    Args:
        tree: the data.
        roles: train, query and gallery -> name of its folder.
        reading: how to read it.
        top_only: a class is the first folder, not the whole path.

    Returns:
        The data set.

    Raises:
        ValueError: training images have no class.
    """
    lists: dict[str, ImageRows] = {}
    notes: list[str] = []
    for role, name in roles.items():
        if role == "query" and name == roles.get("gallery"):
            continue
        lists[role] = class_folder_rows(tree, name, top_only, keep_loose=role != "train")
        notes += [f"{name}: {note}" for note in folder_notes(tree, name)]
    if "train" in lists and not lists["train"].rows:
        raise ValueError(
            f"{tree.root}: {roles['train']} has photographs but no class folders, so they have no "
            "labels. Sort them into a folder per class, or write a CSV."
        )
    names = list(dict.fromkeys(roles.values()))
    first = next(iter(lists.values()))
    for name in tree.folders:
        if name in names:
            continue
        left_out = [(str(file), f"in {name}, which is not read") for file in tree.files(name)]
        first.skipped += left_out
        if left_out or part_named(name):
            notes.append(f"{name}: " + ("not read" if left_out else "no photographs"))
    if tree.loose:
        reason = f"beside the folders {', '.join(names)}"
        first.skipped += [(str(file), reason) for file in tree.loose]
        notes.append(f"{counted(len(tree.loose), 'photograph')} {reason}: not read")
    return build_data_set(
        tree.root,
        lists,
        merge_labels=reading.merge_labels,
        notes=notes,
        about=f"folders {', '.join(names)} with class folders",
    )


def searches(query: str, gallery: str) -> Callable[[Tree], bool]:
    """Return a check whether the images of one part can be searched in another part.

    Args:
        query: "val" or "test".
        gallery: "train", "test", or the same part.
    """

    def fits(tree: Tree) -> bool:
        if not has_parts(tree):
            return False
        parts = part_folders(tree)
        if roles_of(parts) is not None or not {query, gallery} <= parts.keys():
            return False
        if query == gallery:
            return not _only_in_train(tree, parts, query)
        shared = classes_of(tree, parts[query]) & classes_of(tree, parts[gallery])
        return bool(shared) or not tree.has_class_folders(parts[query])

    return fits


def _only_in_train(tree: Tree, parts: Parts, part: str) -> bool:
    """Return whether one part is held out and training has all of its classes."""
    if "train" not in parts or {"val", "test"} <= parts.keys():
        return False
    return classes_of(tree, parts[part]) <= classes_of(tree, parts["train"])


def search_reader(query: str, gallery: str) -> Callable[[Tree, Reading], DataSet]:
    """Return a reader that takes one part as the queries and another as the gallery.

    Args:
        query: "val" or "test".
        gallery: "train", "test", or the same part.
    """
    return partial(_read_search, query=query, gallery=gallery)


def _read_search(tree: Tree, reading: Reading, query: str, gallery: str) -> DataSet:
    parts = part_folders(tree)
    missing = [part for part in (query, gallery) if part not in parts]
    if missing:
        raise ValueError(
            f"{tree.root}: no folder {_any_of(missing[0])} with photographs. "
            f"Found {', '.join(tree.folders) or 'no folders'}."
        )
    roles = {"query": parts[query]}
    if "train" in parts:
        roles["train"] = parts["train"]
    if gallery != "train":
        roles["gallery"] = parts[gallery]
    return read_roles(tree, roles, reading)


def _any_of(part: str) -> str:
    return "/".join(SPLIT_NAMES[part][:3])
