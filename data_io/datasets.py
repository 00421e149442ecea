"""Data sets as they lie on disk -> DataSet: challenge tree, Grocery Store tree, CSV, one folder per class.

Everything is sorted, so two runs see the same order. A file that cannot be used is left out and remembered with its reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_io.csv_rows import csv_rows
from data_io.folders import IMAGE_SUFFIXES, image_files, visible_entries
from data_io.records import ImageList

SPLITS = ("train", "query", "gallery")
ACCEPTED_FORMS = (
    "Give a folder with one sub-folder of images per class (or train/, query/, gallery/ of such), "
    "a CSV with the columns path,label,split[,group], the challenge tree (train/train_data, test/test_data), "
    "or the Grocery Store tree (train.txt, classes.csv)."
)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Three lists that share one mapping: label `i` is class_names[i]. A list that the data lack is empty."""

    name: str
    train: ImageList
    query: ImageList
    gallery: ImageList
    class_names: tuple[str, ...]

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(path, reason) of every file left out of any list, each once."""
        return tuple(
            dict.fromkeys((*self.train.skipped, *self.query.skipped, *self.gallery.skipped))
        )


@dataclass
class _Rows:
    """The rows of one list on their way into an ImageList."""

    labelled: bool = True
    grouped: bool = False
    sorted_by_class: bool = True
    rows: dict[str, tuple[str, str, str]] = field(
        default_factory=dict
    )  # id -> path, class name, group
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, image_id: str, path: str | Path, class_name: str = "", group: str = "") -> None:
        if image_id in self.rows:
            self.skipped.append((str(path), f"same id as {self.rows[image_id][0]}"))
        else:
            self.rows[image_id] = (str(path), class_name, group)

    def build(self, label_of: dict[str, int]) -> ImageList:
        def order(item: tuple[str, tuple[str, str, str]]) -> tuple[int, str]:
            image_id, (_, class_name, _) = item
            return (label_of[class_name] if self.labelled and self.sorted_by_class else 0), image_id

        items = sorted(self.rows.items(), key=order)
        return ImageList(
            ids=np.array([image_id for image_id, _ in items]),
            paths=np.array([path for _, (path, _, _) in items]),
            labels=np.array([label_of[name] for _, (_, name, _) in items])
            if self.labelled
            else None,
            groups=np.array([group for _, (_, _, group) in items]) if self.grouped else None,
            skipped=tuple(self.skipped),
        )


def load_dataset(path: str | Path, query_split: str = "val") -> DataSet:
    """Reads a data set in whichever of the accepted forms it lies on disk. Files are listed, not opened.

    query_split: "val" or "test", which list of the Grocery Store tree gives the queries; the other forms name their own.
    Where queries but no gallery are given, the gallery is the train list.
    Raises: ValueError, one line with the remedy, when there is no such path, no image, or a list of images contradicts itself.
    """
    path = Path(path)
    if path.is_file():
        return _read_csv(path)
    if not path.is_dir():
        raise ValueError(f"{path}: not found. {ACCEPTED_FORMS}")
    for tree in (path, path / "dataset"):
        if (tree / "train.txt").is_file() and (tree / "classes.csv").is_file():
            return _read_grocery(tree, query_split)
    if (path / "train" / "train_data").is_dir() or (path / "test" / "test_data").is_dir():
        return _read_challenge(path)
    return _read_class_folders(path)


def list_images(path: str | Path) -> ImageList:
    """An unlabelled folder, with its sub-folders, or a single file. ids: path below the folder, without extension.

    Raises: ValueError when there is no such path or no image.
    """
    path = Path(path)
    rows = _Rows(labelled=False)
    if path.is_file():
        rows.add(path.stem, path)
    elif path.is_dir():
        for file in image_files(path, rows.skipped):
            rows.add(_id_below(path, file), file)
    else:
        raise ValueError(f"{path}: not found. Give an image or a folder of images.")
    if not rows.rows:
        raise ValueError(
            f"{path}: no image in it. Images end in {' '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return rows.build({})


def _data_set(
    path: Path, splits: dict[str, _Rows], class_names: Sequence[str] | None = None
) -> DataSet:
    if class_names is None:
        found = {
            name for rows in splits.values() if rows.labelled for _, name, _ in rows.rows.values()
        }
        class_names = sorted(found, key=_natural)
    label_of = {name: label for label, name in enumerate(class_names)}
    lists = {split: rows.build(label_of) for split, rows in splits.items()}
    if not any(len(images) for images in lists.values()):
        skipped = [
            f"{where}: {reason}" for rows in splits.values() for where, reason in rows.skipped
        ]
        why = f" ({len(skipped)} left out; the first: {skipped[0]})" if skipped else ""
        raise ValueError(f"{path}: no image found{why}. {ACCEPTED_FORMS}")
    if "gallery" not in lists and "query" in lists and "train" in lists:
        lists["gallery"] = lists["train"]
    empty = _Rows().build({})
    absolute = Path(os.path.abspath(path))
    return DataSet(
        name=absolute.stem if path.is_file() else absolute.name,
        train=lists.get("train", empty),
        query=lists.get("query", empty),
        gallery=lists.get("gallery", empty),
        class_names=tuple(class_names),
    )


# --- one folder per class


def _read_class_folders(path: Path) -> DataSet:
    folders = {entry.name for entry in visible_entries(path) if os.path.isdir(entry.path)}
    if "train" in folders and folders & {"val", "valid", "validation", "test"}:
        raise ValueError(
            f"{path}: has {', '.join(sorted(folders))}; name the folders train, query and gallery, or write a CSV."
        )
    if "query" not in folders or not folders & {"train", "gallery"}:
        return _data_set(path, {"train": _class_folder(path, path)})
    return _data_set(
        path, {split: _class_folder(path / split, path) for split in SPLITS if split in folders}
    )


def _class_folder(folder: Path, root: Path) -> _Rows:
    """The class is the path of an image's folder below `folder`; its id is the path below `root`, without extension."""
    rows = _Rows()
    for file in image_files(folder, rows.skipped):
        class_name = file.parent.relative_to(folder).as_posix()
        if class_name == ".":
            rows.skipped.append((str(file), "not in the folder of a class"))
        else:
            rows.add(_id_below(root, file), file, class_name)
    return rows


# --- challenge tree (NAVER AI Hackathon 2018)


def _read_challenge(root: Path) -> DataSet:
    train, test = root / "train" / "train_data", root / "test"
    label_file = test / "test_labels.csv"
    class_of = _read_test_labels(label_file) if label_file.is_file() else None
    splits = {"train": _class_folder(train, train) if train.is_dir() else _Rows()}
    for split, folder in (
        ("query", test / "test_data" / "query"),
        ("gallery", test / "test_data" / "reference"),
    ):
        splits[split] = _challenge_test(folder, class_of)
    used = splits["query"].rows.keys() | splits["gallery"].rows.keys()
    for image_id in sorted((class_of or {}).keys() - used):
        splits["query"].skipped.append(
            (image_id, f"in {label_file.name}, but there is no such image")
        )
    return _data_set(root, splits)


def _challenge_test(folder: Path, class_of: dict[str, str] | None) -> _Rows:
    absent = not folder.is_dir()
    rows = _Rows(labelled=class_of is not None or absent, sorted_by_class=False)
    for file in () if absent else image_files(folder, rows.skipped):
        if class_of is None:
            rows.add(file.stem, file)
        elif file.stem in class_of:
            rows.add(file.stem, file, class_of[file.stem])
        else:
            rows.skipped.append((str(file), "no label in test_labels.csv"))
    return rows


def _read_test_labels(path: Path) -> dict[str, str]:
    class_of: dict[str, str] = {}
    for line, row in csv_rows(path, ("id", "label")):
        if class_of.setdefault(row["id"], row["label"]) != row["label"]:
            raise ValueError(f"{path}, line {line}: a second label for {row['id']}; keep one.")
    return {image_id: name for image_id, name in class_of.items() if name}


# --- Grocery Store data set (Klasson et al. 2019, arXiv:1901.00711), https://github.com/marcusklasson/GroceryStoreDataset


def _read_grocery(tree: Path, query_split: str) -> DataSet:
    if query_split not in ("val", "test"):
        raise ValueError(f"query_split must be val or test. Received {query_split!r}.")
    query_file = tree / f"{query_split}.txt"
    if not query_file.is_file():
        raise ValueError(
            f"{query_file}: not found; this copy has {', '.join(sorted(file.name for file in tree.glob('*.txt')))}."
        )
    class_names = _grocery_classes(tree / "classes.csv")
    splits = {
        "train": _grocery_list(tree / "train.txt", class_names),
        "query": _grocery_list(query_file, class_names),
    }
    return _data_set(
        tree.parent if Path(os.path.abspath(tree)).name == "dataset" else tree, splits, class_names
    )


def _grocery_classes(path: Path) -> list[str]:
    name_column, id_column = "Class Name (str)", "Class ID (int)"
    rows = [row for _, row in csv_rows(path, (name_column, id_column))]
    names = {row[id_column]: row[name_column] for row in rows}
    if len(set(names.values())) != len(rows) or set(names) != {
        str(label) for label in range(len(rows))
    }:
        raise ValueError(
            f"{path}: class ids must run from 0 without a gap, each with a name of its own."
        )
    return [names[str(label)] for label in range(len(rows))]


def _grocery_list(path: Path, class_names: Sequence[str]) -> _Rows:
    """Lines `path, fine label, coarse label`."""
    rows = _Rows()
    for line, text in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not text.strip():
            continue
        name, *labels = (cell.strip() for cell in text.split(","))
        if len(labels) != 2 or not labels[0].isdecimal() or int(labels[0]) >= len(class_names):
            known = f"0..{len(class_names) - 1}"
            raise ValueError(
                f"{path}, line {line}: expected `path, class {known}, coarse class`. Received {text!r}."
            )
        file = path.parent / name
        if file.is_file():
            rows.add(_without_suffix(name), file, class_names[int(labels[0])])
        else:
            rows.skipped.append((str(file), "file not found"))
    return rows


# --- CSV path,label,split[,group]


def _read_csv(path: Path) -> DataSet:
    if path.suffix.lower() != ".csv":
        raise ValueError(f"{path}: a file, but not a CSV. {ACCEPTED_FORMS}")
    splits: dict[str, _Rows] = {}
    first: dict[str, tuple[int, str]] = {}  # file -> line and label where it first came
    seen: dict[tuple[str, str], int] = {}
    for line, row in csv_rows(path, ("path", "label", "split")):
        split, name, class_name = row["split"], row["path"], row["label"]
        if split not in SPLITS:
            raise ValueError(
                f"{path}, line {line}: split must be {', '.join(SPLITS)}. Received {split!r}."
            )
        rows = splits.setdefault(split, _Rows(grouped="group" in row))
        file = os.path.normpath(path.parent / name)
        if not name or not class_name:
            rows.skipped.append(
                (file if name else f"{path}, line {line}", "no label" if name else "no path")
            )
            continue
        first_line, first_class = first.setdefault(file, (line, class_name))
        if first_class != class_name:
            both = f"{first_class!r} in line {first_line} and {class_name!r} in line {line}"
            raise ValueError(f"{path}: {name} has label {both}; keep one.")
        earlier = seen.setdefault((split, file), line)
        if earlier != line:
            rows.skipped.append((file, f"line {line}: already in line {earlier}"))
        elif not os.path.isfile(file):
            rows.skipped.append((file, "file not found"))
        else:
            rows.add(_without_suffix(name), file, class_name, row.get("group", ""))
    return _data_set(path, splits)


# --- ids and the order of classes


def _id_below(folder: Path, file: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _without_suffix(name: str) -> str:
    return os.path.splitext(name)[0]


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sorts class names as people do: 2 before 10, milk-2 before milk-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name
