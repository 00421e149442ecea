"""Build DELF's attention, which scores each position of a feature map."""

from __future__ import annotations

import tensorflow as tf


class Attention(tf.keras.layers.Layer):
    """1x1 convolution with batch norm and ReLU, 1x1 convolution to one score, softplus.

    Source: Noh et al. 2017, arXiv:1612.06321, section 4.2.
    """

    def __init__(self) -> None:
        super().__init__(name="attention")
        self.hidden = tf.keras.layers.Conv2D(512, 1, use_bias=False, name="conv1")
        self.norm = tf.keras.layers.BatchNormalization(momentum=0.99, epsilon=1e-5, name="norm")
        self.score = tf.keras.layers.Conv2D(1, 1, name="conv2")

    def call(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Compute the attention.

        Args:
            features: [B, h, w, C].
            training: use the statistics of the batch.

        Returns:
            [B, h, w, 1], positive.
        """
        hidden = tf.nn.relu(self.norm(self.hidden(features), training=training))
        return tf.nn.softplus(self.score(hidden))
