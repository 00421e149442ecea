"""Load training batches with tf.data; this is the only module of data_io that uses TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_io.augmentation import BEFORE_RESIZE, Changes, augment, side_before
from data_io.changes.mixing import MIXINGS, mix_batch
from data_io.images import decode_image, sufficient_px
from data_io.records import ImageList
from data_io.stores.pixels import image_loader

# Distinguishes the random numbers of a batch from those of an image.
OF_A_BATCH = 1


def image_batches(
    images: ImageList,
    batches: np.ndarray,
    size_px: int,
    augmentation: Changes,
    seed: int,
    epoch: int,
    start_step: int = 0,
    pixel_cache: str | Path | None = None,
) -> tf.data.Dataset:
    """Load and augment the images of one epoch, in parallel and before the model needs them.

    The augmentation of an image depends only on seed, epoch and its place in the epoch, and the
    mixing of a batch on seed, epoch and step. So a resumed run gets the same batches as one that
    was not interrupted.

    Args:
        images: N labelled images.
        batches: int [steps, B], rows of `images`.
        size_px: side of the images in a batch.
        augmentation: the augmentations to apply.
        seed: of the run.
        epoch: number of the epoch.
        start_step: the first step to load.
        pixel_cache: folder that keeps the images as squares for later epochs, large enough for a
            crop. Crops and rotations are then made from the square, so an image that is not square
            is rotated after it is resized.

    Returns:
        Batches of (uint8 [B, size_px, size_px, 3], int32 labels [B]); if images are mixed, of
        (images, (labels, other labels [B], float32 shares [B])), as in `MixedBatch`. An image that
        cannot be read ends the iteration with a tf.errors.OpError that names it.

    Raises:
        ValueError: the images have no labels.
    """
    batch_size = batches.shape[1]
    places = np.arange(batches.size).reshape(batches.shape)
    labels = images.known_labels("training").astype(np.int32)
    load_pixels = _pixel_loader(size_px, augmentation, pixel_cache)

    def load(row: np.int64, place: np.int64) -> np.ndarray:
        rng = np.random.default_rng([seed, epoch, int(place)])
        return augment(load_pixels(str(images.paths[row])), size_px, augmentation, rng)

    def load_tensor(row: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.numpy_function(load, [row, place], tf.uint8)
        return tf.ensure_shape(pixels, [size_px, size_px, 3]), tf.gather(labels, row)

    rows_and_places = (batches[start_step:].ravel(), places[start_step:].ravel())
    dataset = tf.data.Dataset.from_tensor_slices(rows_and_places)
    dataset = dataset.map(load_tensor, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    if set(augmentation) & set(MIXINGS):
        dataset = _mixed(dataset, augmentation, seed, epoch, start_step)
    return dataset.prefetch(2)


def _mixed(
    dataset: tf.data.Dataset, changes: Changes, seed: int, epoch: int, start_step: int
) -> tf.data.Dataset:
    """Mix the images of each batch."""

    def mix(step: np.int64, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng([seed, epoch, int(step), OF_A_BATCH])
        return tuple(mix_batch(images, labels, changes, rng))

    def mix_tensors(step: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple:
        kinds = (tf.uint8, tf.int32, tf.int32, tf.float32)
        images, *targets = tf.numpy_function(mix, [step, *batch], kinds)
        shape = batch[1].shape
        images = tf.ensure_shape(images, batch[0].shape)
        return images, tuple(tf.ensure_shape(target, shape) for target in targets)

    dataset = dataset.enumerate(start_step)
    return dataset.map(mix_tensors, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _pixel_loader(
    size_px: int, augmentation: Changes, pixel_cache: str | Path | None
) -> Callable[[str], np.ndarray]:
    """Return path -> uint8 [H, W, 3], decoded no larger than the augmentation needs."""
    side_px = side_before(size_px, augmentation)
    # Without a change of geometry, or with a cache, the image can be resized to a square first.
    if pixel_cache or not set(augmentation) & set(BEFORE_RESIZE):
        return image_loader(side_px, pixel_cache)
    return lambda path: decode_image(path, at_least_px=sufficient_px(side_px))


def feature_batches(
    feature_maps: np.ndarray, labels: np.ndarray, batches: np.ndarray, start_step: int = 0
) -> tf.data.Dataset:
    """Load batches of stored feature maps.

    Args:
        feature_maps: float [N, h, w, C]; can be memory-mapped.
        labels: int [N].
        batches: int [steps, B], rows of `feature_maps`.
        start_step: the first step to load.

    Returns:
        Batches of (float32 [B, h, w, C], int32 labels [B]).
    """

    def produce() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows in batches[start_step:]:
            yield feature_maps[rows].astype(np.float32), labels[rows].astype(np.int32)

    shape = (batches.shape[1], *feature_maps.shape[1:])
    signature = (tf.TensorSpec(shape, tf.float32), tf.TensorSpec(shape[:1], tf.int32))
    return tf.data.Dataset.from_generator(produce, output_signature=signature).prefetch(2)
