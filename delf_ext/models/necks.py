"""Build the layers between the pooled vector and the embedding."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
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


class Dropout(tf.keras.layers.Layer):
    """Dropout whose random numbers can be set before each step, so that a resumed run has them."""

    def __init__(self, rate: float, name: str = "dropout") -> None:
        super().__init__(name=name)
        self.rate = rate
        self.generator = tf.random.Generator.from_seed(0)

    def reseed(self, *numbers: int) -> None:
        """Set the random numbers of the next call; they depend only on `numbers`."""
        self.generator.reset_from_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))

    def call(self, values: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Set a share of the values to 0 and scale the others, in training only.

        Args:
            values: [B, d].
            training: whether to drop values.

        Returns:
            [B, d].
        """
        if not training:
            return values
        seed = self.generator.make_seeds(1)[:, 0]
        return tf.nn.experimental.stateless_dropout(values, self.rate, seed)


class DenseNeck(tf.keras.layers.Layer):
    """Linear layer, then normalization, activation and dropout if the recipe names them."""

    def __init__(self, config: schema.Dense, name: str) -> None:
        super().__init__(name=name)
        self.linear = tf.keras.layers.Dense(config.units, name=name)
        self.norm = NORMALIZATIONS[config.normalization](name=f"{name}_norm")
        self.activation = ACTIVATIONS[config.activation](name=f"{name}_{config.activation}")
        self.dropout = Dropout(config.dropout) if config.dropout else tf.keras.layers.Identity()

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


def dropout(config: schema.Dropout, name: str) -> tf.keras.layers.Layer:
    """Return a dropout layer [B, d] -> [B, d]. Source: Srivastava et al., JMLR 15, 2014."""
    return Dropout(config.share, name)
