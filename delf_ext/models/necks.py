"""Layers between the pooled vector and the embedding."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.recipes import schema


class DenseNeck(tf.keras.layers.Layer):
    """Linear layer, then normalization, activation and dropout where the recipe names them.

    Call: [B, d] -> [B, units].
    """

    def __init__(self, config: schema.Dense, name: str) -> None:
        super().__init__(name=name)
        layers = tf.keras.layers
        self.linear = layers.Dense(config.units, name=name)
        normalizations = {
            "batch": lambda: layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, name=f"{name}_norm"
            ),
            "layer": lambda: layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm"),
        }
        activations = {"relu": layers.ReLU, "prelu": lambda: layers.PReLU(name=f"{name}_prelu")}
        self.norm = normalizations[config.normalization]() if config.normalization else None
        self.activation = activations[config.activation]() if config.activation else None
        self.dropout = layers.Dropout(config.dropout) if config.dropout else None

    def call(self, vector: tf.Tensor, training: bool = False) -> tf.Tensor:
        vector = self.linear(vector)
        if self.norm is not None:
            vector = self.norm(vector, training=training)
        if self.activation is not None:
            vector = self.activation(vector)
        return vector if self.dropout is None else self.dropout(vector, training=training)


def layer_norm(config: schema.LayerNorm, name: str) -> tf.keras.layers.Layer:
    """Return the layer [B, d] -> [B, d]. Source: Ba et al., arXiv:1607.06450."""
    affine = config.affine
    return tf.keras.layers.LayerNormalization(epsilon=1e-5, center=affine, scale=affine, name=name)
