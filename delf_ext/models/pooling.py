"""Pool a feature map [B, h, w, C] to one vector [B, C]."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.recipes import schema

LEAST_P = 0.1
"""Smallest exponent that training can reach; near 0, 1 / p is not finite."""


def average_pool(features: tf.Tensor) -> tf.Tensor:
    """Compute the mean over positions.

    Args:
        features: [B, h, w, C].

    Returns:
        [B, C].
    """
    return tf.reduce_mean(features, axis=[1, 2])


def max_pool(features: tf.Tensor) -> tf.Tensor:
    """Compute the maximum over positions.

    Args:
        features: [B, h, w, C].

    Returns:
        [B, C].
    """
    return tf.reduce_max(features, axis=[1, 2])


def generalized_mean_pool(
    features: tf.Tensor, p: float | tf.Tensor = 3.0, epsilon: float = 1e-6
) -> tf.Tensor:
    """Compute (mean x^p)^(1/p) over positions, in float32.

    Source: Radenovic et al., arXiv:1711.02512, eq. 3.

    Args:
        features: [B, h, w, C].
        p: 1 is the mean; larger values are nearer to the maximum.
        epsilon: smaller features are raised to this.

    Returns:
        float32 [B, C].
    """
    clipped = tf.maximum(tf.cast(features, tf.float32), epsilon)
    # Powers of the features themselves leave float32 for a large p. Those of their ratios to the
    # maximum do not, and the maximum cancels out: it needs no gradient.
    largest = tf.stop_gradient(tf.reduce_max(clipped, axis=[1, 2], keepdims=True))
    mean = tf.reduce_mean(tf.pow(clipped / largest, p), axis=[1, 2], keepdims=True)
    return tf.squeeze(largest * tf.pow(mean, 1.0 / p), axis=[1, 2])


def attention_pool(features: tf.Tensor, attention: tf.Tensor) -> tf.Tensor:
    """Compute the sum over positions of attention times features.

    Source: DELF, arXiv:1612.06321, eq. 1.

    Args:
        features: [B, h, w, C].
        attention: [B, h, w, 1].

    Returns:
        [B, C].
    """
    return tf.reduce_sum(attention * features, axis=[1, 2])


def norm_attention(features: tf.Tensor) -> tf.Tensor:
    """Compute the length of each position's vector, an attention that needs no training.

    Args:
        features: [B, h, w, C].

    Returns:
        [B, h, w, 1].
    """
    return tf.norm(features, axis=-1, keepdims=True)


class Pool(tf.keras.layers.Layer):
    """Base of the pooling layers."""

    def call(self, features: tf.Tensor, attention: tf.Tensor | None = None) -> tf.Tensor:
        """Pool features.

        Args:
            features: [B, h, w, C].
            attention: [B, h, w, 1]; only `DelfPool` uses it.

        Returns:
            [B, C].
        """
        return self._pool(features, attention)

    def _pool(self, features: tf.Tensor, attention: tf.Tensor | None) -> tf.Tensor:
        raise NotImplementedError


class AveragePool(Pool):
    """Mean over positions; see `average_pool`."""

    def __init__(self, config: schema.Average) -> None:
        super().__init__(name="average")

    def _pool(self, features: tf.Tensor, attention: tf.Tensor | None) -> tf.Tensor:
        return average_pool(features)


class MaxPool(Pool):
    """Maximum over positions; see `max_pool`."""

    def __init__(self, config: schema.Maximum) -> None:
        super().__init__(name="maximum")

    def _pool(self, features: tf.Tensor, attention: tf.Tensor | None) -> tf.Tensor:
        return max_pool(features)


class GemPool(Pool):
    """Generalized mean over positions; see `generalized_mean_pool`."""

    def __init__(self, config: schema.Gem) -> None:
        super().__init__(name="gem")
        self.p = config.p
        if config.trainable:
            # The optimizer applies the bound after each step.
            least = min(config.p, LEAST_P)
            self.p = tf.Variable(
                config.p, name="gem/p", constraint=lambda value: tf.maximum(value, least)
            )

    def _pool(self, features: tf.Tensor, attention: tf.Tensor | None) -> tf.Tensor:
        return generalized_mean_pool(features, self.p)


class FeatureNormPool(Pool):
    """Sum over positions of features times their lengths."""

    def __init__(self, config: schema.FeatureNorm) -> None:
        super().__init__(name="feature_norm")

    def _pool(self, features: tf.Tensor, attention: tf.Tensor | None) -> tf.Tensor:
        return attention_pool(features, norm_attention(features))


class DelfPool(Pool):
    """Sum or mean over positions of features times attention. Source: arXiv:1612.06321.

    If `config.normalized`: the mean of attention times unit vectors, as DELF trains its attention
    (scope `attention_block`). Otherwise: the sum of attention times raw vectors. A skip connection
    adds the unweighted sum.
    """

    def __init__(self, config: schema.DelfAttention) -> None:
        super().__init__(name="delf_attention")
        self.config = config

    def _pool(self, features: tf.Tensor, attention: tf.Tensor) -> tf.Tensor:
        if self.config.normalized:
            pooled = average_pool(attention * tf.math.l2_normalize(features, axis=-1))
        else:
            pooled = attention_pool(features, attention)
        if self.config.skip_connection:
            pooled += tf.reduce_sum(features, axis=[1, 2])
        return pooled
