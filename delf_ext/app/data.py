"""Choose the images to work on: drawn data sets, validation splits, queries and gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_io.artifacts import digest_of
from data_io.caches import cache_folder
from data_io.contents import contents_of
from data_io.datasets import DataSet
from data_io.records import ImageList
from data_io.splits import divide, query_and_gallery, split_classes, stratified_folds
from delf_ext.recipes import schema

# Images per class in the first round of the 2018 challenge: 7,104 training images, 195 queries and
# 1,127 gallery images of 1,000 classes.
TRAIN_PER_CLASS = 7.104
QUERIES_PER_CLASS = 0.195
GALLERY_PER_CLASS = 1.127
NO_IMAGES = ImageList(np.array([]), np.array([]))


def draw_products(out: Path | None, num_classes: int, seed: int, image_size_px: int = 256) -> Path:
    """Draw a data set with the challenge's number of images per class, unless it exists already.

    Args:
        out: folder of the data set; None = a folder in the user's cache.
        num_classes: number of training classes.
        seed: seed of the drawings.
        image_size_px: side of the images in pixels.

    Returns:
        The folder.

    Raises:
        ValueError: if `out` holds something else, or cannot be written.
    """
    from data_io.synthetic.dataset import DrawConfig, draw_dataset

    config = DrawConfig(
        num_classes,
        round(TRAIN_PER_CLASS * num_classes),
        max(1, round(QUERIES_PER_CLASS * num_classes)),
        max(2, round(GALLERY_PER_CLASS * num_classes)),
        image_size_px,
        seed,
    )
    name = f"drawn-{num_classes}-{digest_of(vars(config))}"
    return draw_dataset(out or cache_folder() / name, config)


@dataclass(frozen=True, eq=False)
class Split:
    """Training images, and the queries and gallery that choose the best weights.

    Attributes:
        train: images to train on.
        query: validation queries; empty without validation.
        gallery: validation gallery; empty without validation.
        held_out: names of the classes, or ids of the images, that are not trained on.
        held_back: all images that are not trained on; validation may use only some of them.
        description: what the validation images are, for the log.
    """

    train: ImageList
    query: ImageList = NO_IMAGES
    gallery: ImageList = NO_IMAGES
    held_out: tuple[str, ...] = ()
    held_back: ImageList = NO_IMAGES
    description: str = "none"


def split(
    images: ImageList,
    data: DataSet,
    validation: schema.Validation | None,
    seed: int,
    held_out: Sequence[str] = (),
) -> Split:
    """Split the labelled training images as the validation of a recipe says.

    Args:
        images: the readable training images.
        data: the data set; gives class names, and the lists of a `Given` validation.
        validation: rule of the recipe; None = no validation.
        seed: seed of the random choices.
        held_out: names that the run held back before. They are held back again; a new choice
            could move images between the two sides if files were added or removed since.

    Returns:
        The split.

    Raises:
        ValueError: if the data does not allow this split.
    """
    images = images.labelled()
    if validation is None:
        return Split(images)
    if isinstance(validation, schema.HeldOutClasses):
        return _split_by_class(images, data, validation, seed, held_out)
    if isinstance(validation, schema.StratifiedFolds):
        return _split_by_fold(images, validation, seed, held_out)
    if not len(data.query) or not len(data.gallery):
        raise ValueError(
            f"{data.name}: validation Given needs queries and a gallery; the data has none."
        )
    return Split(images, data.query, data.gallery, description="queries and gallery of the data")


def _split_by_class(
    images: ImageList,
    data: DataSet,
    validation: schema.HeldOutClasses,
    seed: int,
    held_out: Sequence[str],
) -> Split:
    """Hold back whole classes, so that validation shows products that training has not seen."""
    is_block = isinstance(validation, schema.ClassBlock)
    choice = "block" if is_block else "random"
    description = f"dev split ({choice}, {validation.share:g} of the classes)"
    image_classes = np.array(data.class_names)[images.known_labels("a split by class")]
    is_held_out = np.isin(image_classes, held_out)
    if is_held_out.any():
        train, dev = divide(images, is_held_out)
    else:
        train, dev = split_classes(images, validation.share, is_block, seed)
    dev_labels = dev.known_labels("a split by class")
    dev_classes = tuple(data.class_names[label] for label in np.unique(dev_labels))
    if np.bincount(dev_labels).max() < 2:
        # With one image per class, a query has no relevant image.
        return Split(train, held_out=dev_classes, held_back=dev, description=description)
    query, gallery = query_and_gallery(
        dev, validation.max_queries, validation.gallery_per_class, seed
    )
    return Split(train, query, gallery, dev_classes, dev, description)


def _split_by_fold(
    images: ImageList, validation: schema.StratifiedFolds, seed: int, held_out: Sequence[str]
) -> Split:
    """Hold back one fold of the images; its images are searched in the other folds."""
    folds = stratified_folds(images, validation.folds, seed)
    is_held_out = np.isin(images.ids, held_out)
    if is_held_out.any():
        train, dev = divide(images, is_held_out)
    else:
        train, dev = folds[validation.fold]
    description = f"fold {validation.fold} of {validation.folds}, searched in the other folds"
    return Split(train, dev, train, tuple(dev.ids.tolist()), dev, description)


def evaluation_lists(
    data: DataSet,
    validation: schema.Validation | None,
    seed: int,
    held_out: Sequence[str] = (),
) -> tuple[ImageList, ImageList, str]:
    """Return queries and gallery to measure on, and what they are.

    These are the lists of the data; without them, the validation split; without a split, each
    training image is searched in all others.

    Args:
        data: the data set.
        validation: rule by which training held images back; None = nothing was held back.
        seed: seed of the split.
        held_out: names that training held back.

    Returns:
        Queries, gallery, and a description for the log.

    Raises:
        ValueError: if the data has queries but no gallery, or a gallery but no queries, or if
            there is nothing to find.
    """
    if len(data.query) and len(data.gallery):
        return data.query, data.gallery, "queries and gallery of the data"
    if len(data.query) or len(data.gallery):
        missing = "gallery" if len(data.query) else "query"
        raise ValueError(
            f"{data.name}: the data has no {missing} images. Add them, or pass class folders only."
        )
    if validation is not None and not isinstance(validation, schema.Given):
        parts = split(data.train, data, validation, seed, held_out)
        if not len(parts.query):
            raise ValueError(
                f"{data.name}: no held-out class has two images, so there is nothing to find. "
                "Pass data with queries."
            )
        return parts.query, parts.gallery, parts.description
    return data.train, data.train, "no queries: each image is searched in all the others"


def content_of(images: ImageList) -> str:
    """Return a digest of the contents and labels of images; names and paths do not count."""
    labels = [] if images.labels is None else images.labels.tolist()
    return digest_of([contents_of(images.paths.tolist()), labels])
