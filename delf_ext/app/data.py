"""Which images a use case works on: drawn data sets, validation splits, queries and gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_io.artifacts import digest_of
from data_io.datasets import DataSet
from data_io.folders import cache_folder
from data_io.records import ImageList
from data_io.splits import k_fold, query_and_gallery, split_classes
from data_io.stores.embedding_parts import contents_of
from delf_ext.recipes import schema

# Images per class as in the hackathon's first round: 7,104 training images of 1,000 classes, 195 queries, 1,127 references.
TRAIN_PER_CLASS, QUERIES_PER_CLASS, GALLERY_PER_CLASS = 7.104, 0.195, 1.127


def draw_products(out: Path | None, num_classes: int, seed: int, image_size_px: int = 256) -> Path:
    """Draw a data set in the challenge's proportions, once; in the cache folder unless `out` says where."""
    from data_io.synthetic.dataset import DrawConfig, draw_dataset

    config = DrawConfig(
        num_classes,
        round(TRAIN_PER_CLASS * num_classes),
        max(1, round(QUERIES_PER_CLASS * num_classes)),
        max(2, round(GALLERY_PER_CLASS * num_classes)),
        image_size_px,
        seed,
    )
    return draw_dataset(
        out or cache_folder() / f"drawn-{num_classes}-{digest_of(vars(config))}", config
    )


@dataclass(frozen=True, eq=False)
class Split:
    """Training images and the lists that choose the best weights; empty lists without validation.

    held_out: names of the classes, or ids of the images, that are not trained on. what: the split in words.
    """

    train: ImageList
    query: ImageList
    gallery: ImageList
    held_out: tuple[str, ...] = ()
    what: str = "none"


def split(
    images: ImageList,
    data: DataSet,
    validation: schema.Validation | None,
    seed: int,
    held_out: Sequence[str] = (),
) -> Split:
    """Hold images back as a recipe says.

    Args:
        images: the training images that can be read.
        data: names the classes, and gives the queries and the gallery of a `Given` validation.
        validation: of the recipe; None holds nothing back.
        seed: of the random choices.
        held_out: what a finished run has held back; the part of it that is there is held back again. Without it a
            file that came or went since would move the others between the two sides.

    Raises:
        ValueError: when the data do not allow the split.
    """
    nothing = images.take([], skipped=())
    if validation is None:
        return Split(images, nothing, nothing)
    if isinstance(validation, schema.HeldOutClasses):
        how = "block" if isinstance(validation, schema.ClassBlock) else "random"
        names = np.array(data.class_names)[images.known_labels("a split by class")]
        train, dev = _again(images, np.isin(names, held_out)) or split_classes(
            images, validation.share, how, seed
        )
        held_out = tuple(
            data.class_names[label] for label in np.unique(dev.known_labels("a split by class"))
        )
        what = f"dev split ({how}, {validation.share:g} of the classes)"
        if np.bincount(dev.known_labels("dev evaluation")).max() < 2:  # nothing could be found
            return Split(train, nothing, nothing, held_out, what)
        query, gallery = query_and_gallery(
            dev, validation.max_queries, validation.gallery_per_class, seed
        )
        return Split(train, query, gallery, held_out, what)
    if isinstance(validation, schema.StratifiedFolds):
        folds = k_fold(images, validation.folds, stratified=True, seed=seed)
        train, dev = _again(images, np.isin(images.ids, held_out)) or folds[validation.fold]
        what = f"fold {validation.fold} of {validation.folds}, searched for in the others"
        return Split(train, dev, train, tuple(dev.ids.tolist()), what)
    if not len(data.query) or not len(data.gallery):
        raise ValueError(
            f"{data.name}: validation Given needs queries and a gallery; the data have none."
        )
    return Split(images, data.query, data.gallery, what="queries and gallery of the data")


def _again(images: ImageList, held_out: np.ndarray) -> tuple[ImageList, ImageList] | None:
    """Return (train, dev) by rows, held_out [N] bool; None when no row is held out."""
    return (images.take(~held_out), images.take(held_out, skipped=())) if held_out.any() else None


def evaluation_lists(
    data: DataSet,
    validation: schema.Validation | None,
    seed: int,
    held_out: Sequence[str] = (),
) -> tuple[ImageList, ImageList, str]:
    """Return (query, gallery, what they are): the data's own; else the validation split; else each image against all.

    held_out: as in `split`.

    Raises: ValueError when the data name queries and no gallery, or the other way round; when nothing could be found.
    """
    if len(data.query) and len(data.gallery):
        return data.query, data.gallery, "queries and gallery of the data"
    if len(data.query) or len(data.gallery):
        which = "gallery" if len(data.query) else "query"
        raise ValueError(
            f"{data.name}: the data have no {which} images; add them, or give class folders alone."
        )
    if validation is not None and not isinstance(validation, schema.Given):
        held_back = split(data.train, data, validation, seed, held_out)
        if not len(held_back.query):
            raise ValueError(
                f"{data.name}: no held-out class has two images: nothing to find. Pass data with queries."
            )
        return held_back.query, held_back.gallery, held_back.what
    return data.train, data.train, "each training image against all others"


def content_of(images: ImageList) -> str:
    """Return a digest of the images by content and label."""
    labels = [] if images.labels is None else images.labels.tolist()
    return digest_of([contents_of(images.paths.tolist()), labels])
