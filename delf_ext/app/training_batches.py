"""Make the batches of a training: which images, and in which form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_io.augmentation import side_before
from data_io.contact_sheet import save_contact_sheet
from data_io.messages import shown_path
from data_io.progress import Log
from data_io.records import ImageList
from data_io.sampling import epoch_batches
from data_io.stores.pixels import PixelCache
from delf_ext.app.trainable import augmentations
from delf_ext.app.training_settings import Settings
from delf_ext.recipes import schema

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel

Batches = Callable[[int, int], Any]
"""(epoch, first step) -> tf.data of the batches of an epoch, from that step on."""
Plan = Callable[[int], np.ndarray]
"""Epoch -> image rows of its batches, int [steps, batch size]."""
AUGMENTED = "augmented.png"
"""Picture of augmented images in a run directory."""


def plan_epoch(sampling: schema.Sampling, images: ImageList, seed: int, epoch: int) -> np.ndarray:
    """Choose the images of all batches of an epoch.

    Args:
        sampling: rule of the recipe.
        images: the training images, with labels from 0 without a gap.
        seed: seed of the run.
        epoch: number of the epoch, from 0.

    Returns:
        int [steps, batch size], rows of `images`.

    Raises:
        ValueError: if there are too few classes for this sampling.
    """
    labels = images.known_labels("training")
    batch_size = sampling.batch_size
    if isinstance(sampling, schema.PxK):
        return epoch_batches(labels, batch_size, seed, epoch, "classes", sampling.images)
    kind = "pairs" if isinstance(sampling, schema.Pairs) else "shuffled"
    return epoch_batches(labels, batch_size, seed, epoch, kind)


def batches_of_images(
    recipe: schema.Recipe, images: ImageList, plan: Plan, settings: Settings, log: Log
) -> Batches:
    """Return the batches of augmented images and labels.

    Args:
        recipe: gives size and augmentations.
        images: the training images.
        plan: rows of each epoch.
        settings: seed and cache of decoded images.
        log: called with a line about the cache for each image size.

    Returns:
        A function from epoch and first step to tf.data.
    """
    from data_io.batches import image_batches
    from delf_ext.training.loop import stage_of

    seed = settings.seed
    changes = augmentations(recipe.input)
    cache = settings.pixel_cache or None
    if cache:
        for size_px in dict.fromkeys(recipe.sizes_px):
            pixel_cache = PixelCache(cache, side_before(size_px, changes))
            log(pixel_cache.statement(len(images)))

    def batches(epoch: int, first_step: int) -> Any:
        size_px = stage_of(recipe.stages, epoch).size_px or recipe.input.size_px
        rows = plan(epoch)
        return image_batches(images, rows, size_px, changes, seed, epoch, first_step, cache)

    return batches


def draw_first_batch(batches: Batches, path: Path, log: Log) -> None:
    """Draw the first batch as the network sees it, unless the picture exists.

    Args:
        batches: of augmented images.
        path: PNG file to write.
        log: called with one line about the picture.
    """
    if path.exists():
        return
    # Without it, the pipeline would load all following batches too.
    ((images, targets),) = batches(0, 0).take(1).as_numpy_iterator()
    save_contact_sheet(path, images, targets[2] if isinstance(targets, tuple) else None)
    log(f"augmented training images: {shown_path(path)}")


def batches_of_feature_maps(
    recipe: schema.Recipe, images: ImageList, plan: Plan, model: EmbeddingModel, folder: Path
) -> Batches:
    """Return the batches of feature maps of a frozen trunk, and labels.

    The maps are computed once and stored.

    Args:
        recipe: gives size and batch size.
        images: the training images.
        plan: rows of each epoch.
        model: its trunk computes the maps.
        folder: where the maps are stored.

    Returns:
        A function from epoch and first step to tf.data.
    """
    from data_io.batches import feature_batches
    from delf_ext.features.feature_maps import stored_feature_maps

    maps = stored_feature_maps(model, recipe.input.size_px, images, folder, recipe.batch_size)
    labels = images.known_labels("training")

    def batches(epoch: int, first_step: int) -> Any:
        return feature_batches(maps, labels, plan(epoch), first_step)

    return batches
