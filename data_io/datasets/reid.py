"""Read trees of person and vehicle re-identification, named like Market-1501.

Sources: Zheng et al. 2015, "Scalable Person Re-identification: A Benchmark" (names of files, junk
images, distractors, and the rule on cameras); DukeMTMC-reID, CUHK03-NP and VeRi-776 use the same
names.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

from data_io.datasets.data_set import (
    DataSet,
    ImageRows,
    build_data_set,
    counted,
    id_below,
    map_lists,
)
from data_io.datasets.layout import Reading
from data_io.datasets.split_folders import part_folders, roles_of
from data_io.datasets.tree import Tree

# 0002_c1s1_000451_03.jpg, -1_c3s1_000201_02.jpg, 0005_c2_f0046985.jpg, 0001_c001_00016450_0.jpg
NAME = re.compile(r"(-1|\d{1,8})_c(\d{1,4})(?=\D)")
JUNK = "-1"
"""Identity of detections that are neither right nor wrong."""
FORM = "0002_c1s1_000451_03.jpg"


class Name(NamedTuple):
    """What the name of a file says."""

    identity: str
    camera: str


def name_of(file: Path) -> Name | None:
    """Return identity and camera in the name of a file, None if it has another form.

    >>> name_of(Path("query/0002_c1s1_000451_03.jpg"))
    Name(identity='0002', camera='c1')
    """
    match = NAME.match(file.name)
    return Name(match[1], f"c{int(match[2])}") if match else None


def is_reid_tree(tree: Tree) -> bool:
    """Return whether most files of the parts, or in the root, are named like Market-1501's."""
    folders = _folders_of(tree).values()
    files = [file for folder in folders for file in (tree.files(folder) if folder else tree.loose)]
    return 2 * sum(name_of(file) is not None for file in files) > len(files)


def read_reid_tree(tree: Tree, reading: Reading) -> DataSet:
    """Read bounding_box_train, bounding_box_test and query, or a single folder of photographs.

    Junk images (-1) are left out. Images of 0000 stay in the gallery without a label if 0000 is no
    query: they are distractors. A gallery image of the query's identity and camera is junk.

    Args:
        tree: the folder.
        reading: how to read it.

    Returns:
        The data set.

    Raises:
        ValueError: no file has a name of this form.
    """
    folders = _folders_of(tree)
    lists = {role: _rows(tree, folder) for role, folder in folders.items()}
    _remove_labels_of_distractors(lists)
    data = build_data_set(
        tree.root,
        lists,
        merge_labels=reading.merge_labels,
        about="Market-1501 tree, identity and camera from the names of the files",
        notes=[*_notes(lists), *_unread(tree, folders)],
    )
    return _without_own_camera(data)


def _folders_of(tree: Tree) -> dict[str, str]:
    """Return train, query and gallery -> folder; without parts, the root is for training."""
    parts = part_folders(tree)
    roles = roles_of(parts)
    if roles is None:
        # train/ and test/ without query/: the images of test/ are searched in one another.
        roles = {part: parts[part] for part in ("train",) if part in parts}
        roles["gallery"] = parts.get("test") or parts["val"]
    return roles or {"train": ""}


def _rows(tree: Tree, folder: str) -> ImageRows:
    rows = ImageRows(grouped=True, skipped=tree.skipped(folder))
    for file in tree.files(folder):
        name = name_of(file)
        if name is None:
            rows.skipped.append((str(file), f"its name is not of the form {FORM}"))
        elif name.identity == JUNK:
            rows.skipped.append((str(file), "junk image: identity -1"))
        else:
            rows.add(id_below(tree.root, file), file, name.identity, name.camera)
    return rows


def _remove_labels_of_distractors(lists: dict[str, ImageRows]) -> None:
    """Remove identity 0 from the gallery, unless a query or a training image has it."""
    known = {
        row.class_name
        for role in ("train", "query")
        for row in (lists[role].found.values() if role in lists else ())
    }
    if "gallery" not in lists:
        return
    gallery = lists["gallery"]
    for key, row in gallery.found.items():
        if not row.class_name.strip("0") and row.class_name not in known:
            gallery.found[key] = row._replace(class_name="")


def _notes(lists: dict[str, ImageRows]) -> list[str]:
    num_junk = sum(
        reason.startswith("junk image") for rows in lists.values() for _, reason in rows.skipped
    )
    notes = [f"{counted(num_junk, 'junk image')} (-1) left out"] if num_junk else []
    gallery = lists["gallery"].found.values() if "gallery" in lists else ()
    num_distractors = sum(not row.class_name for row in gallery)
    if num_distractors:
        notes.append(f"{counted(num_distractors, 'distractor')} (0000) in the gallery")
    return notes


def _unread(tree: Tree, folders: dict[str, str]) -> list[str]:
    names = [name for name in tree.folders if name not in folders.values()]
    return [f"not read: {', '.join(names)}"] if names and "" not in folders.values() else []


def _without_own_camera(data: DataSet) -> DataSet:
    """Make gallery images of the query's identity and camera junk, if there are several cameras."""
    lists = (data.train, data.query, data.gallery)
    groups = [images.groups for images in lists if images.groups is not None]
    if len({camera for cameras in groups for camera in cameras.tolist()}) < 2:
        note = "one camera only: photographs of the query's own camera count as answers"
        return dataclasses.replace(data, notes=(*data.notes, note))
    data = map_lists(data, lambda images: dataclasses.replace(images, same_group_is_junk=True))
    note = "a gallery image of the query's identity and camera counts neither as right nor as wrong"
    return dataclasses.replace(data, notes=(*data.notes, note))
