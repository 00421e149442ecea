"""Plan how the images of any data set become the challenge's folder tree."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_io.datasets import DataSet
from data_io.datasets.data_set import with_suffix
from data_io.records import NO_LABEL, ImageList
from data_io.synthetic.shots import QUERY, REFERENCE, TRAIN

TEST = "test/test_data"
# Characters that some operating system forbids in file names.
UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]+')
# Letters of a folder name. A file system allows 255 bytes, and a letter has up to four.
MAX_NAME = 60


class ChallengeTree(NamedTuple):
    """Files of a challenge tree, and the labels of its test images.

    Attributes:
        sources: path in the tree -> image file to copy there.
        labels: id of a test image -> label, "" for an image without one; empty unless both queries
            and references have labels.
    """

    sources: dict[str, str]
    labels: dict[str, str]


def lay_out(data: DataSet, keep_names: bool) -> ChallengeTree:
    """Choose the path of each image in the challenge tree.

    Args:
        data: training images, queries and gallery.
        keep_names: keep the names of the image files. Otherwise queries and references are named
            query_<i> and refer_<j>, numbered in a random order with a fixed seed.

    Returns:
        The tree. Labels of test images are not part of its paths.
    """
    classes = folder_names(data.class_names)
    query = data.query
    gallery = data.gallery
    if not keep_names:
        rng = np.random.default_rng(0)
        query = _numbered(query, "query", rng)
        gallery = _numbered(gallery, "refer", rng)
    sources = dict(_train_files(data.train, classes, keep_names))
    for folder, images in ((QUERY, query), (REFERENCE, gallery)):
        for image_id, source in zip(images.ids, images.paths):
            sources[f"{folder}/{with_suffix(image_id, source)}"] = source
    labels: dict[str, str] = {}
    if query.labels is not None and gallery.labels is not None:
        labels = _labels(query, classes) | _labels(gallery, classes)
    return ChallengeTree(sources, labels)


def folder_names(class_names: Sequence[str]) -> list[str]:
    """Return a folder name for each class that is valid on every operating system.

    Names of different classes differ, also if upper and lower case are not distinguished.

    Args:
        class_names: names of C classes.

    Returns:
        C folder names.

    >>> folder_names(["12", "Fruit/Apple", "fruit_apple", "../x"])
    ['12', 'Fruit_Apple', 'fruit_apple_2', '_x']
    """
    names: dict[str, str] = {}
    for class_name in class_names:
        base = UNSAFE.sub("_", class_name).strip(". ")[:MAX_NAME].strip(". ") or "_"
        name = base
        number = 1
        while name.casefold() in names:
            number += 1
            name = f"{base}_{number}"
        names[name.casefold()] = name
    return list(names.values())


def _numbered(images: ImageList, prefix: str, rng: np.random.Generator) -> ImageList:
    """Shuffle images and name them by their new positions."""
    # The files are written in the new order, so neither names nor file times reveal the class.
    ids = np.array([f"{prefix}_{number}" for number in range(len(images))])
    return dataclasses.replace(images.take(rng.permutation(len(images))), ids=ids)


def _train_files(
    train: ImageList, classes: Sequence[str], keep_names: bool
) -> Iterator[tuple[str, str]]:
    """Yield (path in the tree, image file) of each training image that has a label."""
    train = train.labelled()
    num_images: Counter[str] = Counter()
    for label, path in zip(train.known_labels("training"), train.paths, strict=True):
        folder = classes[label]
        name = Path(path).name
        if not keep_names:
            name = f"{folder}_{num_images[folder]}{Path(path).suffix}"
        yield f"{TRAIN}/{folder}/{name}", path
        num_images[folder] += 1


def _labels(images: ImageList, classes: Sequence[str]) -> dict[str, str]:
    return {
        str(name): "" if label == NO_LABEL else classes[label]
        for name, label in zip(images.ids, images.partial_labels("scoring"), strict=True)
    }
