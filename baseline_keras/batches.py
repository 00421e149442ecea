"""Build training batches with the official augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from baseline_keras.network import PIXEL_SCALE
from data_io.images import load_image
from data_io.records import ImageList

# The official settings. Keras' shear_range is in degrees, so 0.2 hardly shears. It is kept because
# the baseline was trained with it.
AUGMENTATION = tf.keras.preprocessing.image.ImageDataGenerator(
    rescale=PIXEL_SCALE, shear_range=0.2, zoom_range=0.2, horizontal_flip=True
)


def draw_transform(rng: np.random.Generator) -> dict[str, Any]:
    """Draw the parameters of a random transform.

    They are distributed like those of ImageDataGenerator.get_random_transform. That method draws
    from NumPy's global generator, so its results would depend on the order of the threads.

    Args:
        rng: draws the parameters.

    Returns:
        Arguments of ImageDataGenerator.apply_transform.
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
    """Shear, zoom and flip an image at random.

    Args:
        image: uint8 [S, S, 3].
        rng: draws the transform.

    Returns:
        float32 [S, S, 3] in 0..1.
    """
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
) -> tf.data.Dataset:
    """Return the batches of the epochs `first_epoch` to `epochs` - 1, one epoch after the other.

    Each epoch contains every row of `images` once. Its last batch may be smaller. The order is
    drawn from (seed, epoch) and a row's transform from (seed, epoch, row), so a resumed run gets
    the same batches as one that was never stopped.

    Args:
        images: N training images.
        labels: int64 [N], class of each image.
        image_size_px: side S of the square input.
        batch_size: B.
        seed: of order and transforms.
        first_epoch: counted from 0.
        epochs: number of epochs of the whole run.

    Returns:
        Pairs of float32 [B, S, S, 3] in 0..1 and int64 [B].
    """

    def order(epoch: np.ndarray) -> np.ndarray:
        return np.random.default_rng([seed, int(epoch)]).permutation(len(images)).astype(np.int64)

    # One function loads image and label, so that no image can get the label of another one.
    def load(row: np.ndarray, epoch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([seed, int(epoch), int(row)])
        return augment(load_image(images.paths[row], image_size_px), rng), labels[row]

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
