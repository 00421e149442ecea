"""Define a data set, and build it from the rows that a reader found."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_io.datasets.class_names import alike_notes, joined_names
from data_io.files.names import shown
from data_io.records import NO_LABEL, ImageList

SPLITS = ("train", "query", "gallery")
ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
ACCEPTED_FORMS = (
    "Give a folder with one sub-folder of images per class "
    "(or folders train/, query/ and gallery/, each with such sub-folders), "
    "a CSV with the columns path,label,split[,group], "
    "the challenge tree (train/train_data, test/test_data), "
    "the Grocery Store tree (train.txt, classes.csv), a Market-1501 tree, "
    "or a zip archive of one of these."
)


@dataclass(frozen=True, eq=False)
class DataSet:
    """Three lists of images with common labels; a list that the data do not have is empty.

    Attributes:
        name: of the folder or the CSV file.
        train: images to train on.
        query: images to search with.
        gallery: images to search in.
        class_names: label i is class_names[i].
        notes: lines that tell the user how the data were read.
        layout: name of the layout that was read; "auto" if it is not known.
        about: what the data are, such as "folder per class".
        levels: name of each coarser level of the labels -> for each class its label there.
    """

    name: str
    train: ImageList
    query: ImageList
    gallery: ImageList
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    layout: str = "auto"
    about: str = ""
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def read_as(self) -> str:
        """How the data were read: "folder per class: 6 classes, 42 images"."""
        counts = []
        if self.class_names:
            counts.append(counted(len(self.class_names), "class", "classes"))
        has_lists = len(self.query) or len(self.gallery)
        if len(self.train):
            kind = "training image" if has_lists else "image"
            counts.append(counted(len(self.train), kind))
        if len(self.query) and self.query is not self.gallery:
            where = ", searched in the training images" if self.gallery is self.train else ""
            counts.append(counted(len(self.query), "query", "queries") + where)
        if len(self.gallery) and self.gallery is not self.train:
            is_query = ", each a query against the others" if self.query is self.gallery else ""
            counts.append(counted(len(self.gallery), "gallery image") + is_query)
        return f"{self.about}: {', '.join(counts)}"

    @property
    def paths(self) -> list[str]:
        """Paths of the images of all lists."""
        return [*self.train.paths, *self.query.paths, *self.gallery.paths]

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(path, reason) of each file that was left out of any list, without repetition."""
        skipped = (*self.train.skipped, *self.query.skipped, *self.gallery.skipped)
        return tuple(dict.fromkeys(skipped))


class ImageRow(NamedTuple):
    """One image of a list that is being read."""

    path: str
    class_name: str
    group: str


@dataclass
class ImageRows:
    """The images of one list while it is being read.

    Attributes:
        labelled: the images have classes.
        grouped: the images have groups.
        sorted_by_class: sort by label, then by id; otherwise by id only.
        found: (path without suffix, file) -> image, in the order of `add`.
        skipped: (path, reason) of each file that was left out.
    """

    labelled: bool = True
    grouped: bool = False
    sorted_by_class: bool = True
    found: dict[tuple[str, str], ImageRow] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, image_id: str, path: str | Path, class_name: str = "", group: str = "") -> None:
        """Add an image.

        Args:
            image_id: its path without suffix. If several images have the same, their ids get
                their suffixes.
            path: of the image file.
            class_name: of its class; "" for an image without a label.
            group: of the image, if the list is grouped.

        Raises:
            ValueError: it was added before with another class.
        """
        key = (image_id, str(path))
        if key in self.found:
            before = self.found[key].class_name
            if before != class_name:
                raise ValueError(
                    f"{path}: has label {before!r} and label {class_name!r}; keep one."
                )
            self.skipped.append((str(path), "listed before"))
        else:
            self.found[key] = ImageRow(str(path), class_name, group)

    @property
    def rows(self) -> dict[str, ImageRow]:
        """Images by id."""
        ids = distinct_ids([stem for stem, _ in self.found], [path for _, path in self.found])
        return dict(zip(ids, self.found.values(), strict=True))

    def build(self, label_of: dict[str, int]) -> ImageList:
        """Return the sorted list of images.

        Args:
            label_of: label of each class name.

        Returns:
            The list. Images without a label come last if it is sorted by class.
        """
        items = sorted(self.rows.items())
        if self.labelled and self.sorted_by_class:
            items.sort(key=lambda item: label_of.get(item[1].class_name, len(label_of)))
        rows = [row for _, row in items]
        labels = np.array([label_of.get(row.class_name, NO_LABEL) for row in rows], np.int64)
        is_labelled = self.labelled and (not rows or (labels != NO_LABEL).any())
        return ImageList(
            ids=np.array([image_id for image_id, _ in items]),
            paths=np.array([row.path for row in rows]),
            labels=labels if is_labelled else None,
            groups=np.array([row.group for row in rows]) if self.grouped else None,
            skipped=tuple(self.skipped),
        )


def build_data_set(
    path: Path,
    splits: dict[str, ImageRows],
    class_names: Sequence[str] | None = None,
    merge_labels: bool = False,
    notes: Sequence[str] = (),
    about: str = "",
) -> DataSet:
    """Build a data set from the rows of its lists.

    Without a gallery, queries are searched in the training images. Without queries, each gallery
    image is searched in the others.

    Args:
        path: the folder or file that was read.
        splits: the rows of "train", "query" and "gallery"; any of them can be missing.
        class_names: in the order of the labels; None sorts the names of all rows.
        merge_labels: join class names that differ only in how they are written.
        notes: lines for the user about how the data were read.
        about: what the data are, such as "folder per class".

    Returns:
        The data set.

    Raises:
        ValueError: no list has an image, or class names differ only in how they are written.
    """
    _require_images(path, splits)
    num_images = Counter(
        row.class_name
        for rows in splits.values()
        for row in rows.found.values()
        if rows.labelled and row.class_name
    )
    if class_names is None:
        class_names = sorted(num_images, key=_natural_order)
    counts = {name: num_images[name] for name in class_names}
    spelling_of, joined = joined_names(path, counts, merge_labels)
    num_grouped = Counter(
        row.group for rows in splits.values() for row in rows.found.values() if row.group
    )
    joined += alike_notes("groups", num_grouped)
    class_names = list(dict.fromkeys(spelling_of[name] for name in class_names))
    number_of = {name: label for label, name in enumerate(class_names)}
    label_of = {name: number_of[spelling] for name, spelling in spelling_of.items()}
    lists = {split: rows.build(label_of) for split, rows in splits.items()}
    if "gallery" not in lists and "query" in lists and "train" in lists:
        lists["gallery"] = lists["train"]
    if "query" not in lists and "gallery" in lists:
        lists["query"] = lists["gallery"]
    empty = ImageRows().build({})
    absolute = Path(os.path.abspath(path))
    return DataSet(
        name=absolute.stem if path.is_file() else absolute.name,
        train=lists.get("train", empty),
        query=lists.get("query", empty),
        gallery=lists.get("gallery", empty),
        class_names=tuple(class_names),
        notes=(*notes, *joined),
        about=about,
    )


def with_skipped(data: DataSet, skipped: Sequence[tuple[str, str]]) -> DataSet:
    """Return a data set whose lists name more files that were left out.

    Args:
        data: the data set.
        skipped: (path, reason) of each file.

    Returns:
        The data set.
    """
    if not skipped:
        return data
    return map_lists(data, lambda images: replace(images, skipped=(*images.skipped, *skipped)))


def map_lists(data: DataSet, change: Callable[[ImageList], ImageList]) -> DataSet:
    """Return a data set with each list changed. Lists that were one object still are.

    Args:
        data: the data set.
        change: returns the new list.

    Returns:
        The data set.
    """
    new = {id(images): change(images) for images in (data.train, data.query, data.gallery)}
    return replace(
        data, train=new[id(data.train)], query=new[id(data.query)], gallery=new[id(data.gallery)]
    )


def left_out_details(skipped: Sequence[tuple[str, str]]) -> str:
    """Return " (3 left out; the first: PATH: REASON)", or "" if nothing was skipped."""
    if not skipped:
        return ""
    return f" ({len(skipped)} left out; the first: {': '.join(skipped[0])})"


def distinct_ids(stems: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return the stem of each image as its id; the suffix stays where several have one stem.

    Args:
        stems: path of each image without suffix.
        paths: of each image.

    Returns:
        The ids.

    >>> distinct_ids(["a", "a", "b"], ["a.jpg", "a.png", "b.jpg"])
    ['a.jpg', 'a.png', 'b']
    """
    suffixes = [os.path.splitext(path)[1] for path in paths]
    ids = list(stems)
    while True:
        num_images = Counter(ids)
        # An id with its suffix can be the stem of another image: a.jpg and a.jpg.png.
        longer = [
            stem + suffix if num_images[image_id] > 1 else image_id
            for stem, suffix, image_id in zip(stems, suffixes, ids, strict=True)
        ]
        if longer == ids:
            return ids
        ids = longer


def _require_images(path: Path, splits: dict[str, ImageRows]) -> None:
    if any(rows.found for rows in splits.values()):
        return
    skipped = [entry for rows in splits.values() for entry in rows.skipped]
    found = f"no image found{left_out_details(skipped)}"
    raise ValueError(f"{path}: {found}{_archive_hint(path)}. {ACCEPTED_FORMS}")


def _archive_hint(folder: Path) -> str:
    """Return "; it holds the archive NAME: unpack that first", or "" if there is none."""
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    archives = [file.name for file in files if file.suffix.lower() in ARCHIVES and file.is_file()]
    return f"; it holds the archive {shown(archives[0])}: unpack that first" if archives else ""


def id_below(folder: Path, file: Path) -> str:
    """Return the path of a file below a folder, without suffix."""
    return file.relative_to(folder).with_suffix("").as_posix()


def without_suffix(name: str) -> str:
    """Return a path without the suffix of the file."""
    return os.path.splitext(name)[0]


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number with its noun: "1 class", "2 classes".

    Args:
        number: the number.
        one: the noun for one.
        several: the noun for any other number; "" adds an s.

    Returns:
        The text.
    """
    return f"{number} {one if number == 1 else several or one + 's'}"


def with_suffix(image_id: str, path: str) -> str:
    """Return the path that belongs to an id, with the suffix of the file.

    Args:
        image_id: id of the image; it has its suffix already where several images have one stem.
        path: of the image file.

    Returns:
        The path, relative to the same folder as the id.

    >>> with_suffix("a/1", "/photos/a/1.jpg"), with_suffix("a/1.png", "/photos/a/1.png")
    ('a/1.jpg', 'a/1.png')
    """
    if os.path.basename(image_id) == os.path.basename(path):
        return image_id
    return image_id + os.path.splitext(path)[1]


def _natural_order(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that puts 2 before 10, and milk-2 before milk-10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name
