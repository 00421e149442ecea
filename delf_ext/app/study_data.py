"""Choose the images that a study measures on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_io.datasets import DataSet
from data_io.files.artifacts import digest_of
from data_io.records import ImageList
from data_io.splits import few_of_each_class
from delf_ext.app.data import content_of
from delf_ext.app.evaluation_lists import evaluation_lists, require_answers
from delf_ext.features.embedder import HeldBack

MAX_IMAGES = 2000
MAX_PER_CLASS = 20


@dataclass(frozen=True, eq=False)
class StudyLists:
    """Queries and gallery of a study.

    Attributes:
        query: images to search with.
        gallery: images to search in; the same object as `query` if each is searched in all others.
        description: what they are, for the log.
        digest: changes with the contents and labels of the images, and with their order.
    """

    query: ImageList
    gallery: ImageList
    description: str
    digest: str


def study_lists(data: DataSet, own_queries: bool, seed: int) -> StudyLists:
    """Choose the images.

    Untrained networks have seen none of them, so no class has to be held out. The default is a dev
    split of the training images: classes in random order up to MAX_IMAGES images, at most
    MAX_PER_CLASS of each, each image searched in all others. The queries and the gallery of the
    data stay unseen, for the final figure.

    Args:
        data: the data set.
        own_queries: use the queries and the gallery of the data instead.
        seed: seed of the random choice.

    Returns:
        Queries and gallery.

    Raises:
        ValueError: the data has no such images, no labels, or nothing to find.
    """
    if own_queries:
        query, gallery, description = evaluation_lists(data, HeldBack())
        _require_two_classes(data, gallery)
    else:
        query = gallery = _dev_split(data, seed)
        num_classes = len(np.unique(query.known_labels("a study")))
        description = (
            f"dev split of the training images, {len(query)} of {len(data.train)}: {num_classes} "
            f"classes, at most {MAX_PER_CLASS} images of each; each image is searched in all others"
        )
    remedy = "Add other photographs of each class."
    require_answers(query, gallery, "exclude", data.class_names, remedy)
    digest = digest_of([content_of(query), content_of(gallery), query is gallery])
    return StudyLists(query, gallery, description, digest)


def _dev_split(data: DataSet, seed: int) -> ImageList:
    if not len(data.train):
        raise ValueError(
            f"{data.name}: the data has no training images. Pass --query_split=val to measure on "
            "its queries and gallery."
        )
    train = data.train.labelled()
    _require_two_classes(data, train)
    return few_of_each_class(train, MAX_IMAGES, MAX_PER_CLASS, seed)


def _require_two_classes(data: DataSet, images: ImageList) -> None:
    """Raise ValueError if the images have no labels, or only one class."""
    labels = images.partial_labels("a study")
    classes = np.unique(labels[images.has_label])
    if len(classes) == 1:
        raise ValueError(
            f"{data.name}: all images are of one class, {data.class_names[classes[0]]!r}: every "
            "ranking would be perfect. Add other classes."
        )
