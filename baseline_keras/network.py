"""The official network and optimiser, layer for layer."""

from __future__ import annotations

import tensorflow as tf

LEARNING_RATE = 4.5e-4
DECAY = 1e-6
PIXEL_SCALE = 1.0 / 255.0
MIN_IMAGE_SIZE_PX = 10  # below that nothing is left after the second pooling


def build_network(num_classes: int, image_size_px: int = 224) -> tf.keras.Sequential:
    """images float32 [B, S, S, 3] in 0..1 -> class probabilities [B, C]. The layer `logits` gives [B, C] before the softmax.

    Raises: ValueError for fewer than two classes or for images that are too small.
    """
    if num_classes < 2:
        raise ValueError(
            f"the baseline is a classifier and needs at least two classes. Received {num_classes}."
        )
    if image_size_px < MIN_IMAGE_SIZE_PX:
        raise ValueError(
            f"image_size must be at least {MIN_IMAGE_SIZE_PX}. Received {image_size_px}."
        )
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((image_size_px, image_size_px, 3)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(num_classes, name="logits"),
            layers.Activation("softmax"),
        ],
        name="keras_baseline",
    )


def build_embedding(network: tf.keras.Sequential) -> tf.keras.Model:
    """The same weights up to the last dense layer: images [B, S, S, 3] in 0..1 -> [B, C] before the softmax.

    The official code took `model.layers[-2].output`, where `layers[-1]` is the softmax activation.
    """
    return tf.keras.Model(
        network.input, network.get_layer("logits").output, name="keras_baseline_embedding"
    )


def compile_network(network: tf.keras.Sequential) -> None:
    """Official optimiser and loss.

    The legacy RMSprop alone has both the old `decay` (rate / (1 + decay * step)) and a rate that ReduceLROnPlateau may set:
    a schedule object in the new one could not be set.
    """
    network.compile(
        optimizer=tf.keras.optimizers.legacy.RMSprop(LEARNING_RATE, decay=DECAY),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
