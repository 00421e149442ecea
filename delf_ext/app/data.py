"""Choose the images to work on: data sets, drawn ones, validation splits, queries and gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_io.datasets import DataSet, load_dataset
from data_io.files.artifacts import digest_of
from data_io.files.caches import cache_folder
from data_io.files.contents import contents_of
from data_io.messages import shown_path
from data_io.progress import Log, quiet
from data_io.records import ImageList
from data_io.splits import divide, query_and_gallery, split_classes, stratified_folds
from delf_ext.recipes import schema

# Images per class in the first round of the 2018 challenge: 7,104 training images, 195 queries and
# 1,127 gallery images of 1,000 classes.
TRAIN_PER_CLASS = 7.104
QUERIES_PER_CLASS = 0.195
GALLERY_PER_CLASS = 1.127
NO_IMAGES = ImageList(np.array([]), np.array([]))


def load_named(data: DataSet | str | Path, name: str, log: Log = quiet) -> tuple[DataSet, str]:
    """Load a data set and choose its name in the figures.

    Args:
        data: a data set, or its path.
        name: the name; "" = the path, else the name of the data set.
        log: called with each line about how the data were read.

    Returns:
        The data set and the name.
    """
    if isinstance(data, DataSet):
        return data, name or data.name
    loaded = load_dataset(data)
    log(f"data: {loaded.read_as}")
    for note in loaded.notes:
        log(note)
    return loaded, name or shown_path(data)


def draw_products(
    out: Path | None,
    num_classes: int,
    seed: int,
    image_size_px: int = 256,
    lotte_shift: float | None = None,
) -> Path:
    """Draw a data set with a competition's number of images per class, unless it exists already.

    Args:
        out: folder of the data set; None = a folder in the user's cache.
        num_classes: number of training classes.
        seed: seed of the drawings.
        image_size_px: side of the images in pixels.
        lotte_shift: `LotteConfig.shift` of the Lotte competition; None = draw the challenge.

    Returns:
        The folder.

    Raises:
        ValueError: if `out` holds something else, or cannot be written.
    """
    from data_io.synthetic.dataset import AnyConfig, DrawConfig, LotteConfig, draw_dataset

    config: AnyConfig = DrawConfig(
        num_classes,
        round(TRAIN_PER_CLASS * num_classes),
        max(1, round(QUERIES_PER_CLASS * num_classes)),
        max(2, round(GALLERY_PER_CLASS * num_classes)),
        image_size_px,
        seed,
    )
    if lotte_shift is not None:
        config = LotteConfig(num_classes, image_size_px=image_size_px, shift=lotte_shift, seed=seed)
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


def describe_validation(validation: schema.Validation) -> str:
    """Return what the validation images of a recipe are, for the log."""
    if isinstance(validation, schema.HeldOutClasses):
        choice = "block" if isinstance(validation, schema.ClassBlock) else "random"
        return f"dev split ({choice}, {validation.share:g} of the classes)"
    if isinstance(validation, schema.StratifiedFolds):
        return f"fold {validation.fold + 1} of {validation.folds}, searched in the other folds"
    return "queries and gallery of the data"


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
    description = describe_validation(validation)
    return Split(images, data.query, data.gallery, description=description)


def _split_by_class(
    images: ImageList,
    data: DataSet,
    validation: schema.HeldOutClasses,
    seed: int,
    held_out: Sequence[str],
) -> Split:
    """Hold back whole classes, so that validation shows products that training has not seen."""
    is_block = isinstance(validation, schema.ClassBlock)
    description = describe_validation(validation)
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
    split_seed = seed if validation.split_seed is None else validation.split_seed
    folds = stratified_folds(images, validation.folds, split_seed, keep_single=True)
    is_held_out = np.isin(images.ids, held_out)
    if is_held_out.any():
        train, dev = divide(images, is_held_out)
    else:
        train, dev = folds[validation.fold]
    description = describe_validation(validation)
    return Split(train, dev, train, tuple(dev.ids.tolist()), dev, description)


def content_of(images: ImageList) -> str:
    """Return a digest of the contents and labels of images; names and paths do not count."""
    labels = [] if images.labels is None else images.labels.tolist()
    return digest_of([contents_of(images.paths.tolist()), labels])
