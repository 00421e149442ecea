"""Build the layers between the pooled vector and the embedding."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from delf_ext.recipes import schema


def _batch_norm(name: str) -> tf.keras.layers.Layer:
    return tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")


def _layer_norm(name: str) -> tf.keras.layers.Layer:
    return tf.keras.layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm")


def _relu(name: str) -> tf.keras.layers.Layer:
    return tf.keras.layers.ReLU()


def _prelu(name: str) -> tf.keras.layers.Layer:
    return tf.keras.layers.PReLU(name=f"{name}_prelu")


NORMALIZATIONS: dict[str, Callable[[str], tf.keras.layers.Layer]] = {
    "batch": _batch_norm,
    "layer": _layer_norm,
}
ACTIVATIONS: dict[str, Callable[[str], tf.keras.layers.Layer]] = {"relu": _relu, "prelu": _prelu}


class DenseNeck(tf.keras.layers.Layer):
    """Linear layer, then normalization, activation and dropout if the recipe names them."""

    def __init__(self, config: schema.Dense, name: str) -> None:
        super().__init__(name=name)
        self.linear = tf.keras.layers.Dense(config.units, name=name)
        self.norm = None
        self.activation = None
        self.dropout = None
        if config.normalization:
            self.norm = NORMALIZATIONS[config.normalization](name)
        if config.activation:
            self.activation = ACTIVATIONS[config.activation](name)
        if config.dropout:
            self.dropout = tf.keras.layers.Dropout(config.dropout)

    def call(self, vector: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Transform vectors.

        Args:
            vector: [B, d].
            training: use the statistics of the batch, and dropout.

        Returns:
            [B, units].
        """
        vector = self.linear(vector)
        if self.norm is not None:
            vector = self.norm(vector, training=training)
        if self.activation is not None:
            vector = self.activation(vector)
        if self.dropout is not None:
            vector = self.dropout(vector, training=training)
        return vector


def layer_norm(config: schema.LayerNorm, name: str) -> tf.keras.layers.Layer:
    """Return a layer normalization [B, d] -> [B, d]. Source: Ba et al., arXiv:1607.06450."""
    affine = config.affine
    return tf.keras.layers.LayerNormalization(epsilon=1e-5, center=affine, scale=affine, name=name)
