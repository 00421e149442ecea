"""Embed the labelled images that a head is fitted on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_io.datasets import DataSet
from data_io.files.contents import contents_of
from data_io.progress import Log
from data_io.records import ImageList
from delf_ext.app.trained_on import trained_queries
from delf_ext.features.embedder import Embedder, Ensemble
from delf_ext.features.extraction import extract_with_copies
from delf_ext.index.failed import usable
from delf_ext.recipes.schema import TestTime


@dataclass(frozen=True, eq=False)
class Labelled:
    """Labelled images with their embeddings, before the projection.

    Attributes:
        images: N labelled images.
        embeddings: float32 [N, D].
        is_new: bool [N], the base model was not trained on the image.
    """

    images: ImageList
    embeddings: np.ndarray
    is_new: np.ndarray


def labelled_images(data: DataSet) -> ImageList:
    """Return the labelled training images of a data set, by id: the order of a CSV does not matter.

    Raises:
        ValueError: there is none.
    """
    images = data.train.labelled() if data.train.labels is not None else data.train.take([])
    if not len(images):
        raise ValueError(
            f"{data.name}: no labelled training image, so there is nothing to fit a head on. Pass "
            "data with a folder per product, or a CSV file path,label,split with split train."
        )
    return images.take(np.argsort(images.ids, kind="stable"))


def embed_labelled(
    base: Embedder | Ensemble,
    images: ImageList,
    data: DataSet,
    test_time: TestTime | None,
    batch_size: int,
    log: Log,
) -> Labelled:
    """Embed labelled images, and find those that the model was trained on.

    Args:
        base: the model, without a head.
        images: labelled images.
        data: the data set that they are from.
        test_time: copies of each image that are joined with it; None = as the recipes say.
        batch_size: images per call of the model.
        log: called with a line for each kind of image that is left out.

    Returns:
        The images that are left, with their embeddings; see `embed_usable`.
    """
    images, embeddings = embed_usable(base, images, test_time, batch_size, log)
    found = trained_queries(base, images, data.class_names)
    trained = {path for path, _ in found.photographs}
    is_new = np.array([path not in trained for path in images.paths.tolist()], bool)
    if not found.is_known:
        log("the base model does not list the photographs that it was trained on")
    return Labelled(images, embeddings, is_new)


def embed_usable(
    base: Embedder | Ensemble,
    images: ImageList,
    test_time: TestTime | None,
    batch_size: int,
    log: Log,
) -> tuple[ImageList, np.ndarray]:
    """Embed images; leave out those that failed, and further copies of one file.

    Args:
        base: the model, without a head.
        images: images to embed.
        test_time: copies of each image that are joined with it; None = as the recipes say.
        batch_size: images per call of the model.
        log: called with a line for each kind of image that is left out.

    Returns:
        The images that are left, and their embeddings, float32 [N, D].
    """
    features, images = extract_with_copies(base, images, test_time, batch_size)
    contents = contents_of(images.paths.tolist())
    first_of = {content: row for row, content in reversed(list(enumerate(contents)))}
    is_first = np.array([first_of[content] == row for row, content in enumerate(contents)])
    is_used = is_first & ~features.failed
    for number, what in (
        (int(np.sum(features.failed)), "images: the model's embedding is zero or not finite"),
        (int(np.sum(~is_first)), "images are copies of another one"),
        (len(images.skipped), "files cannot be read"),
    ):
        if number:
            log(f"left out: {number} {what}")
    images = images.take(is_used)
    return images, usable(features.take(is_first)).embeddings
