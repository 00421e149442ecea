"""Training batches with the official augmentation. A row's image and label are looked up together, so they cannot part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from baseline_keras.network import PIXEL_SCALE
from data_io.records import ImageList
from data_io.stores.pixels import image_loader

# The official settings. Keras' shear_range is in degrees, so 0.2 hardly shears; that is what the baseline was trained with.
AUGMENTATION = tf.keras.preprocessing.image.ImageDataGenerator(
    rescale=PIXEL_SCALE, shear_range=0.2, zoom_range=0.2, horizontal_flip=True
)


def draw_transform(rng: np.random.Generator) -> dict[str, Any]:
    """Parameters of one random transform, distributed as ImageDataGenerator.get_random_transform draws them.

    That method draws from NumPy's global generator, which would tie the result to the order in which threads run.
    """
    zoom_rows, zoom_columns = rng.uniform(
        AUGMENTATION.zoom_range[0], AUGMENTATION.zoom_range[1], size=2
    )
    return {
        "shear": rng.uniform(-AUGMENTATION.shear_range, AUGMENTATION.shear_range),
        "zx": zoom_rows,
        "zy": zoom_columns,
        "flip_horizontal": bool(rng.random() < 0.5),
    }


def augment(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 [S, S, 3] -> float32 [S, S, 3] in 0..1, sheared, zoomed and flipped at random."""
    transformed = AUGMENTATION.apply_transform(image.astype(np.float32), draw_transform(rng))
    return AUGMENTATION.standardize(transformed).astype(np.float32)


def training_batches(
    images: ImageList,
    labels: np.ndarray,
    image_size_px: int,
    batch_size: int,
    seed: int,
    first_epoch: int,
    epochs: int,
    pixel_cache: str | Path | None = None,
) -> tf.data.Dataset:
    """Epochs first_epoch..epochs-1 one after the other: (float32 [B, S, S, 3] in 0..1, int64 [B]).

    Each epoch holds every row of `images` once, in an order drawn from (seed, epoch); the last batch of an epoch may be smaller.
    A row's transform is drawn from (seed, epoch, row): a resumed run sees what an uninterrupted one would have seen.
    pixel_cache: folder that keeps the decoded photographs for the epochs after the first.
    """
    photograph = image_loader(image_size_px, pixel_cache)

    def order(epoch: np.ndarray) -> np.ndarray:
        return np.random.default_rng([seed, int(epoch)]).permutation(len(images)).astype(np.int64)

    def load(row: np.ndarray, epoch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, int(epoch), int(row)])
        return augment(photograph(images.paths[row]), rng), labels[row]

    def load_tensors(row: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = tf.numpy_function(load, [row, epoch], [tf.float32, tf.int64])
        return tf.ensure_shape(image, (image_size_px, image_size_px, 3)), tf.ensure_shape(label, ())

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        rows = tf.ensure_shape(tf.numpy_function(order, [epoch], tf.int64), (len(images),))
        loaded = tf.data.Dataset.from_tensor_slices(rows).map(
            lambda row: load_tensors(row, epoch),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return loaded.batch(batch_size)

    return tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_batches).prefetch(2)
