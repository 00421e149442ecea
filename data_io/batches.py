"""Training batches as tf.data. The only TensorFlow in data_io."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_io.augmentation import BEFORE_RESIZE, Changes, augment, side_before
from data_io.images import decode_image, sufficient_px
from data_io.records import ImageList
from data_io.stores.pixels import image_loader


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
    """(uint8 [B, size_px, size_px, 3], int32 labels [B]) for the rows in `batches` [steps, B], from `start_step` on.

    Decoded and augmented in parallel, ahead of the model. What happens to a photograph depends only on seed, epoch and its
    place in the epoch, so a resumed run sees what an undisturbed one would have seen.
    pixel_cache: folder that keeps the photographs as squares, large enough for a crop, for the epochs after the first. Crops
    and turns are then of the square: a photograph that is not one is turned after squashing, not before.
    Raises: ValueError without labels; a photograph that cannot be read ends the iteration with a tf.errors.OpError naming it.
    """
    batch_size = batches.shape[1]
    places = np.arange(batches.size).reshape(batches.shape)
    labels = images.known_labels("training").astype(np.int32)
    photograph = _photograph_loader(size_px, augmentation, pixel_cache)

    def load(row: np.int64, place: np.int64) -> np.ndarray:
        rng = np.random.default_rng([seed, epoch, int(place)])
        return augment(photograph(str(images.paths[row])), size_px, augmentation, rng)

    def load_tensor(row: tf.Tensor, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = tf.numpy_function(load, [row, place], tf.uint8)
        return tf.ensure_shape(pixels, [size_px, size_px, 3]), tf.gather(labels, row)

    flat = (batches[start_step:].ravel(), places[start_step:].ravel())
    dataset = tf.data.Dataset.from_tensor_slices(flat)
    dataset = dataset.map(load_tensor, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(batch_size, drop_remainder=True).prefetch(2)


def _photograph_loader(
    size_px: int, augmentation: Changes, pixel_cache: str | Path | None
) -> Callable[[str], np.ndarray]:
    """path -> uint8 [H, W, 3], no larger than the augmentation needs: its own shape before a change of geometry, else square."""
    side_px = side_before(size_px, augmentation)
    if pixel_cache or not set(augmentation) & set(BEFORE_RESIZE):
        return image_loader(side_px, pixel_cache)
    return lambda path: decode_image(path, at_least_px=sufficient_px(side_px))


def feature_batches(
    feature_maps: np.ndarray, labels: np.ndarray, batches: np.ndarray, start_step: int = 0
) -> tf.data.Dataset:
    """(float32 [B, h, w, C], int32 labels [B]) out of stored feature maps [N, h, w, C], which may be memory-mapped."""

    def produce() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for rows in batches[start_step:]:
            yield feature_maps[rows].astype(np.float32), labels[rows].astype(np.int32)

    shape = (batches.shape[1], *feature_maps.shape[1:])
    signature = (tf.TensorSpec(shape, tf.float32), tf.TensorSpec(shape[:1], tf.int32))
    return tf.data.Dataset.from_generator(produce, output_signature=signature).prefetch(2)
