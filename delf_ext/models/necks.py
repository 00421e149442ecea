"""Build the layers between the pooled vector and the embedding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import tensorflow as tf

from delf_ext.recipes import schema

NORMALIZATIONS: dict[str, Callable[..., tf.keras.layers.Layer]] = {
    "": tf.keras.layers.Identity,
    "batch": partial(tf.keras.layers.BatchNormalization, momentum=0.9, epsilon=1e-5),
    "layer": partial(tf.keras.layers.LayerNormalization, epsilon=1e-5),
}
ACTIVATIONS: dict[str, Callable[..., tf.keras.layers.Layer]] = {
    "": tf.keras.layers.Identity,
    "relu": tf.keras.layers.ReLU,
    "prelu": tf.keras.layers.PReLU,
}


class DenseNeck(tf.keras.layers.Layer):
    """Linear layer, then normalization, activation and dropout if the recipe names them."""

    def __init__(self, config: schema.Dense, name: str) -> None:
        super().__init__(name=name)
        self.linear = tf.keras.layers.Dense(config.units, name=name)
        self.norm = NORMALIZATIONS[config.normalization](name=f"{name}_norm")
        self.activation = ACTIVATIONS[config.activation](name=f"{name}_{config.activation}")
        # Dropout(0) would still draw a seed, which would change the random numbers of later layers.
        self.dropout = (
            tf.keras.layers.Dropout(config.dropout)
            if config.dropout
            else tf.keras.layers.Identity()
        )

    def call(self, vector: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Transform vectors.

        Args:
            vector: [B, d].
            training: use the statistics of the batch, and dropout.

        Returns:
            [B, units].
        """
        normalized = self.norm(self.linear(vector), training=training)
        return self.dropout(self.activation(normalized), training=training)


def layer_norm(config: schema.LayerNorm, name: str) -> tf.keras.layers.Layer:
    """Return a layer normalization [B, d] -> [B, d]. Source: Ba et al., arXiv:1607.06450."""
    affine = config.affine
    return tf.keras.layers.LayerNormalization(epsilon=1e-5, center=affine, scale=affine, name=name)
