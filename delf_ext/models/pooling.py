"""From a feature map [B, h, w, C] to one vector [B, C]: the functions, and the layers that recipes name."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.recipes import schema


def average_pool(features: tf.Tensor) -> tf.Tensor:
    """Return the mean over positions, [B, C]."""
    return tf.reduce_mean(features, axis=[1, 2])


def generalized_mean_pool(
    features: tf.Tensor, p: float | tf.Tensor = 3.0, epsilon: float = 1e-6
) -> tf.Tensor:
    """Return (mean x^p)^(1/p) over positions, [B, C]; x is clipped to at least `epsilon`.

    Source: Radenovic et al., arXiv:1711.02512, eq. 3.
    """
    clipped = tf.maximum(features, epsilon)
    return tf.pow(tf.reduce_mean(tf.pow(clipped, p), axis=[1, 2]), 1.0 / p)


def attention_pool(features: tf.Tensor, attention: tf.Tensor) -> tf.Tensor:
    """Return the sum over positions of attention [B, h, w, 1] times features. Source: DELF, arXiv:1612.06321, eq. 1."""
    return tf.reduce_sum(attention * features, axis=[1, 2])


def norm_attention(features: tf.Tensor) -> tf.Tensor:
    """Return the length of each position's vector, [B, h, w, 1]: attention that needs no training."""
    return tf.norm(features, axis=-1, keepdims=True)


class AveragePool(tf.keras.layers.Layer):
    """Call: features [B, h, w, C], attention (not used) -> [B, C]."""

    def __init__(self, config: schema.Average) -> None:
        super().__init__(name="average")

    def call(self, features: tf.Tensor, attention: tf.Tensor | None = None) -> tf.Tensor:
        return average_pool(features)


class GemPool(tf.keras.layers.Layer):
    """Call: features [B, h, w, C], attention (not used) -> [B, C]."""

    def __init__(self, config: schema.Gem) -> None:
        super().__init__(name="gem")
        self.p = (
            tf.Variable(config.p, trainable=True, name="gem/p") if config.trainable else config.p
        )

    def call(self, features: tf.Tensor, attention: tf.Tensor | None = None) -> tf.Tensor:
        return generalized_mean_pool(features, self.p)


class FeatureNormPool(tf.keras.layers.Layer):
    """Call: features [B, h, w, C], attention (not used) -> [B, C]."""

    def __init__(self, config: schema.FeatureNorm) -> None:
        super().__init__(name="feature_norm")

    def call(self, features: tf.Tensor, attention: tf.Tensor | None = None) -> tf.Tensor:
        return attention_pool(features, norm_attention(features))


class DelfPool(tf.keras.layers.Layer):
    """Call: features [B, h, w, C], attention [B, h, w, 1] -> [B, C].

    normalized: the mean of attention x unit vectors, as DELF trains its attention (scope `attention_block`). Else the
    sum of attention x raw vectors, plus the unweighted sum with a skip connection. Source: arXiv:1612.06321.
    """

    def __init__(self, config: schema.DelfAttention) -> None:
        super().__init__(name="delf_attention")
        self.config = config

    def call(self, features: tf.Tensor, attention: tf.Tensor) -> tf.Tensor:
        if self.config.normalized:
            pooled = average_pool(attention * tf.math.l2_normalize(features, axis=-1))
        else:
            pooled = attention_pool(features, attention)
        return (
            pooled + tf.reduce_sum(features, axis=[1, 2]) if self.config.skip_connection else pooled
        )
