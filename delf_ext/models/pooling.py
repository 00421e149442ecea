"""From a feature map [B, h, w, C] to one vector [B, C]."""

from __future__ import annotations

import tensorflow as tf

POOLINGS = ("avg", "gem", "attention")


def average_pool(features: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(features, axis=[1, 2])


def generalized_mean_pool(features: tf.Tensor, p: float | tf.Tensor = 3.0, epsilon: float = 1e-6) -> tf.Tensor:
    """(mean x^p)^(1/p) over positions, x clipped to at least `epsilon`. Source: Radenovic et al., arXiv:1711.02512, eq. 3."""
    clipped = tf.maximum(features, epsilon)
    return tf.pow(tf.reduce_mean(tf.pow(clipped, p), axis=[1, 2]), 1.0 / p)


def attention_pool(features: tf.Tensor, attention: tf.Tensor) -> tf.Tensor:
    """Sum over positions of attention [B, h, w, 1] times features. Source: DELF, arXiv:1612.06321, eq. 1."""
    return tf.reduce_sum(attention * features, axis=[1, 2])


def norm_attention(features: tf.Tensor) -> tf.Tensor:
    """A stand-in for attention that nobody has trained: the length of each position's vector, [B, h, w, 1]."""
    return tf.norm(features, axis=-1, keepdims=True)


def pool(features: tf.Tensor, kind: str) -> tf.Tensor:
    """Raises: ValueError naming the known poolings."""
    if kind == "avg":
        return average_pool(features)
    if kind == "gem":
        return generalized_mean_pool(features)
    if kind == "attention":
        return attention_pool(features, norm_attention(features))
    raise ValueError(f"unknown pooling {kind!r} (--pooling). Known: {', '.join(POOLINGS)}.")
