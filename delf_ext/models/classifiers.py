"""Build the layers from a vector [B, d] to logits [B, C]."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.recipes import schema


def linear(config: schema.Linear, num_classes: int) -> tf.keras.layers.Layer:
    """Return a linear layer with bias."""
    return tf.keras.layers.Dense(num_classes, name="classifier")


class CosineClassifier(tf.keras.layers.Layer):
    """Cosine of a vector with one learned direction per class."""

    def __init__(self, config: schema.Cosine, num_classes: int) -> None:
        super().__init__(name="classifier")
        self.num_classes = num_classes

    def build(self, shape: tf.TensorShape) -> None:
        """Create the directions [d, C]; `shape` is [B, d]."""
        self.kernel = self.add_weight(name="kernel", shape=(shape[-1], self.num_classes))

    def call(self, vector: tf.Tensor) -> tf.Tensor:
        """Compute the cosines.

        Args:
            vector: [B, d].

        Returns:
            [B, C], from -1 to 1.
        """
        # Mixed precision would compute a product of float32 in bfloat16. Margin losses multiply its
        # errors, .002, by a scale such as 45.
        directions = tf.math.l2_normalize(tf.cast(self.kernel, tf.float64), axis=0)
        units = tf.math.l2_normalize(tf.cast(vector, tf.float64), axis=-1)
        return tf.cast(tf.matmul(units, directions), tf.float32)
