"""Build the official network and its optimizer, layer for layer."""

from __future__ import annotations

import tensorflow as tf

NOT_FINITE = "the loss is not finite"
LEARNING_RATE = 4.5e-4
DECAY = 1e-6
PIXEL_SCALE = 1.0 / 255.0
# With a smaller input the second pooling would have an empty output.
MIN_IMAGE_SIZE_PX = 10


def build_network(num_classes: int, image_size_px: int = 224) -> tf.keras.Sequential:
    """Build the classifier.

    Args:
        num_classes: C, at least 2.
        image_size_px: side S of the square input.

    Returns:
        A network from images float32 [B, S, S, 3] in 0..1 to class probabilities [B, C]. The output
        of its layer `logits` is [B, C] before the softmax.

    Raises:
        ValueError: there are too few classes, or the images are too small.
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
    """Cut the network before its softmax; both share their weights.

    The official code took `model.layers[-2].output`, because `layers[-1]` is the softmax.

    Args:
        network: from `build_network`.

    Returns:
        A model from images float32 [B, S, S, 3] in 0..1 to logits [B, C].
    """
    logits = network.get_layer("logits").output
    return tf.keras.Model(network.input, logits, name="keras_baseline_embedding")


def finite_crossentropy(labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Compute the official loss, and stop at the first one that is NaN or infinite.

    The check is a part of the graph: the program does not wait for the device after each step.

    Args:
        labels: int [B].
        probabilities: [B, C].

    Returns:
        float32 [B].
    """
    losses = tf.keras.losses.sparse_categorical_crossentropy(labels, probabilities)
    return tf.debugging.check_numerics(losses, NOT_FINITE)


def compile_network(network: tf.keras.Sequential) -> None:
    """Compile the network with the official optimizer and loss.

    Only the legacy RMSprop has both the old `decay` (rate / (1 + decay * step)) and a learning rate
    that ReduceLROnPlateau can set. The new one would need a schedule, which cannot be set.
    """
    network.compile(
        optimizer=tf.keras.optimizers.legacy.RMSprop(LEARNING_RATE, decay=DECAY),
        loss=finite_crossentropy,
        metrics=["accuracy"],
    )
