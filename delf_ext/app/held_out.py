"""Find in a data set the classes and the images that a run held back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_io.datasets import DataSet
from data_io.files.contents import contents_of
from data_io.images import check_images
from data_io.photographs import Photographs
from data_io.records import ImageList
from data_io.splits import query_and_gallery
from delf_ext.app.data import NO_IMAGES, Split, describe_validation, split
from delf_ext.features.embedder import HeldBack
from delf_ext.recipes import schema


def held_out_lists(data: DataSet, held_back: HeldBack) -> Split | None:
    """Return queries and gallery of the images that a run held back.

    A run that lists its photographs knows them by content, so classes may have been renamed, and
    others added, since it was made.

    Args:
        data: the data set; only its training list is used.
        held_back: what the run held back; `validation` is a split.

    Returns:
        The lists; None if the data has none of the run's held-out images.

    Raises:
        ValueError: a class that the run held out holds photographs that were trained on, or
            nothing can be found in the held-out classes.
    """
    if not held_back.names:
        return _drawn_again(data, held_back)
    assert held_back.validation is not None
    description = describe_validation(held_back.validation)
    if isinstance(held_back.validation, schema.HeldOutClasses):
        dev = _held_out_classes(data, held_back)
        if not len(dev.images):
            return None
        _require_pair(data, dev.images)
        query, gallery = _draw(dev, held_back.validation, held_back.seed)
    else:
        query, gallery = _fold(data, held_back)
        if not len(query):
            return None
    return Split(NO_IMAGES, query, gallery, held_back.names, description=description)


def _drawn_again(data: DataSet, held_back: HeldBack) -> Split:
    """Draw the split of a run that does not say what it held back, as training drew it."""
    images = data.train.labelled()
    if 0 < held_back.max_images < len(images):
        images = images.take(np.arange(held_back.max_images))
    parts = split(check_images(images), data, held_back.validation, held_back.seed)
    if not len(parts.query):
        _require_pair(data, parts.held_back)
    trained = [name for name in parts.held_out if name in held_back.classes]
    if trained:
        raise ValueError(
            f"{data.name}: the run does not say which classes it held out, and drawing them again "
            f"gives {_names(trained)}, which it was trained on: the data have changed. "
            "Pass data with their own queries."
        )
    return parts


@dataclass(frozen=True, eq=False)
class _Dev:
    """Images of the held-out classes in the order of the run, and the number of each class."""

    images: ImageList
    numbers: np.ndarray


def _held_out_classes(data: DataSet, held_back: HeldBack) -> _Dev:
    """Return the readable images of the classes that the run held out.

    Raises:
        ValueError: a class that the run held out holds photographs that were trained on.
    """
    images = data.train.labelled()
    labels = images.known_labels("a split by class")
    classes = _Classes(images, labels, data.class_names, held_back)
    number_of = classes.numbers()
    rows = np.flatnonzero(np.isin(labels, list(number_of)))
    dev = check_images(images.take(rows))
    numbers = [number_of[label] for label in dev.known_labels("a split by class").tolist()]
    order = classes.order(dev, numbers)
    return _Dev(dev.take(order), np.array(numbers, np.int64)[order])


class _Classes:
    """The classes of a data set, compared with the photographs of a run.

    Attributes:
        images: labelled images of the data.
        labels: their labels, int64 [N].
        class_names: name of each label.
        held_back: what the run held back.
    """

    def __init__(
        self,
        images: ImageList,
        labels: np.ndarray,
        class_names: Sequence[str],
        held_back: HeldBack,
    ) -> None:
        self.images = images
        self.labels = labels
        self.class_names = class_names
        self.held_back = held_back
        self.photographs = held_back.photographs or Photographs()
        self.present = [int(label) for label in np.unique(labels)]

    def numbers(self) -> dict[int, int]:
        """Return label -> place of the held-out class in the order of the run.

        Raises:
            ValueError: a class that the run held out holds photographs that were trained on.
        """
        names = self.held_back.names
        named = [label for label in self.present if self.class_names[label] in names]
        found = {label: self._counts(label) for label in named}
        is_as_it_was = all(held and not trained for held, trained, _ in found.values())
        if len(named) < len(names) or not is_as_it_was:
            # Something was renamed: look at the photographs of all classes.
            found = {label: self._counts(label) for label in self.present}
        origin = {
            label: name
            for label, (held, trained, name) in found.items()
            if held and held >= trained
        }
        for label in named:
            name = self.class_names[label]
            held, trained, _ = found[label]
            if label in origin or name in origin.values():
                # The class is here, or its photographs are under another name.
                continue
            if trained:
                raise ValueError(
                    f"class {name} of the data was trained on: {trained} of its photographs are "
                    f"training images of the run, although the run held out a class {name}. "
                    "Restore the names of the classes, or pass data with their own queries."
                )
            origin[label] = name
        ranked = sorted(origin, key=lambda label: (names.index(origin[label]), label))
        return {label: number for number, label in enumerate(ranked)}

    def _counts(self, label: int) -> tuple[int, int, str]:
        """Count the photographs of a class that the run held out and that it was trained on.

        Returns:
            Both numbers, and the held-out class that most of the photographs are from.
        """
        if self.held_back.photographs is None:
            return 0, 0, ""
        contents = contents_of(self.images.paths[self.labels == label].tolist())
        held_out = self.photographs.class_of_held_out
        held = [held_out[content] for content in contents if content in held_out]
        trained = [content for content in contents if content in self.photographs.class_of_trained]
        name = Counter(held).most_common(1)[0][0] if held else ""
        return len(held), len(trained), name

    def order(self, dev: ImageList, numbers: Sequence[int]) -> np.ndarray:
        """Return the rows of the held-out images in the order that they had in the run."""
        digests = [digest for side in self.photographs.held_out.values() for digest in side]
        place_of = {digest: place for place, digest in enumerate(dict.fromkeys(digests))}
        contents = contents_of(dev.paths.tolist())
        keys = [
            (number, place_of.get(content, len(place_of)), row)
            for row, (number, content) in enumerate(zip(numbers, contents, strict=True))
        ]
        return np.array([row for _, _, row in sorted(keys)], np.int64)


def _draw(dev: _Dev, validation: schema.HeldOutClasses, seed: int) -> tuple[ImageList, ImageList]:
    """Draw queries and gallery; the choice depends on the order of the run, not on labels."""
    numbered = ImageList(dev.images.ids, dev.images.paths, dev.numbers)
    row_of = {image_id: row for row, image_id in enumerate(dev.images.ids.tolist())}
    sides = query_and_gallery(numbered, validation.max_queries, validation.gallery_per_class, seed)
    rows = [[row_of[image_id] for image_id in side.ids.tolist()] for side in sides]
    return dev.images.take(rows[0], skipped=()), dev.images.take(rows[1])


def _fold(data: DataSet, held_back: HeldBack) -> tuple[ImageList, ImageList]:
    """Return the images of the held-out fold, and the images that were trained on."""
    images = data.train.labelled()
    photographs = held_back.photographs
    if photographs is None:
        is_held_out = np.isin(images.ids, held_back.names)
        return check_images(images.take(is_held_out)), check_images(images.take(~is_held_out))
    contents = contents_of(images.paths.tolist())
    query = [content in photographs.class_of_held_out for content in contents]
    gallery = [content in photographs.class_of_trained for content in contents]
    return images.take(np.array(query), skipped=()), images.take(np.array(gallery))


def _require_pair(data: DataSet, dev: ImageList) -> None:
    labels = dev.known_labels("a split by class")
    if not len(labels) or np.bincount(labels).max() < 2:
        raise ValueError(
            f"{data.name}: no held-out class has two images, so there is nothing to find. "
            "Pass data with queries."
        )


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
