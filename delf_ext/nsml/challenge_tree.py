"""The challenge's tree of any data set: where each image goes, and the labels of the test images, which go nowhere in it."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_io.datasets import DataSet
from data_io.records import ImageList
from data_io.synthetic.dataset import QUERY, REFERENCE, TRAIN

TEST = "test/test_data"
UNSAFE = re.compile(
    r'[/\\:*?"<>|\x00-\x1f\x7f\ud800-\udfff]+'
)  # in a file's name, on one system or another
MAX_NAME = 60  # letters; a file system takes 255 bytes, and a letter may have four


class ChallengeTree(NamedTuple):
    """sources: place in the tree -> file to copy there; labels: test image -> label, empty where the data have none."""

    sources: dict[str, str]
    labels: dict[str, str]


def lay_out(data: DataSet, keep_names: bool) -> ChallengeTree:
    """keep_names: of the files; otherwise query_<i> and refer_<j> are numbered by a seeded permutation."""
    classes = folder_names(data.class_names)
    query, gallery = data.query, data.gallery
    if not keep_names:
        rng = np.random.default_rng(0)
        query, gallery = _numbered(query, "query", rng), _numbered(gallery, "refer", rng)
    sources = dict(_train_files(data.train, classes, keep_names))
    for folder, images in ((QUERY, query), (REFERENCE, gallery)):
        sources |= {
            f"{folder}/{image}{Path(source).suffix}": source
            for image, source in zip(images.ids, images.paths)
        }
    return ChallengeTree(sources, _labels(query, classes) | _labels(gallery, classes))


def folder_names(class_names: Sequence[str]) -> list[str]:
    """A folder's name for each class, safe on any system; classes that differ get names that differ, in more than case.

    >>> folder_names(["12", "Fruit/Apple", "fruit_apple", "../x"])
    ['12', 'Fruit_Apple', 'fruit_apple_2', '_x']
    """
    taken: set[str] = set()
    names = []
    for class_name in class_names:
        name = plain = UNSAFE.sub("_", class_name).strip(". ")[:MAX_NAME].strip(". ") or "_"
        times = 1
        while name.casefold() in taken:
            times += 1
            name = f"{plain}_{times}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _numbered(images: ImageList, prefix: str, rng: np.random.Generator) -> ImageList:
    """In the order of the numbers: neither they nor the times at which the files are written tell of the classes."""
    ids = np.array([f"{prefix}_{number}" for number in range(len(images))])
    return dataclasses.replace(images.take(rng.permutation(len(images))), ids=ids)


def _train_files(
    train: ImageList, classes: Sequence[str], keep_names: bool
) -> Iterator[tuple[str, str]]:
    """(place in the data set, source)."""
    seen: Counter[str] = Counter()
    for label, path in zip(train.known_labels("training"), train.paths, strict=True):
        folder, source = classes[label], Path(path)
        yield (
            f"{TRAIN}/{folder}/{source.name if keep_names else f'{folder}_{seen[folder]}{source.suffix}'}",
            path,
        )
        seen[folder] += 1


def _labels(images: ImageList, classes: Sequence[str]) -> dict[str, str]:
    return (
        {}
        if images.labels is None
        else {str(name): classes[label] for name, label in zip(images.ids, images.labels)}
    )
