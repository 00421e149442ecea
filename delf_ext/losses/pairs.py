"""Compute losses on pairs of images: do they show the same product?

The pairs are the images (0, 1), (2, 3), ... of a batch. `data_io.sampling` orders batches so that
half of the pairs are of one class. With the settings of the 2018 original, a cosine of 0.5 means a
probability of 1/2, and a cosine of 1.0 means nearly 1.
"""

from __future__ import annotations

import tensorflow as tf

from delf_ext.recipes.schema import PairSimilarity, PairSquaredError


def pair_similarity(embedding: tf.Tensor, labels: tf.Tensor, config: PairSimilarity) -> tf.Tensor:
    """Compute the mean sigmoid cross-entropy of (cosine - offset) * scale.

    Source: the 2018 original.

    Args:
        embedding: float [B, D], unit length.
        labels: int [B].
        config: scale and offset.

    Returns:
        float32 scalar.
    """
    logits, same = _pairs(embedding, labels, config)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=same, logits=logits))


def pair_squared_error(
    embedding: tf.Tensor, labels: tf.Tensor, config: PairSquaredError
) -> tf.Tensor:
    """Compute the mean squared error of the sigmoid of (cosine - offset) * scale.

    Source: the help of the 2018 original, "jointly using squared loss".

    Args:
        embedding: float [B, D], unit length.
        labels: int [B].
        config: scale and offset.

    Returns:
        float32 scalar.
    """
    logits, same = _pairs(embedding, labels, config)
    return tf.reduce_mean(tf.square(tf.sigmoid(logits) - same))


def _pairs(
    embedding: tf.Tensor, labels: tf.Tensor, config: PairSimilarity | PairSquaredError
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (cosine - offset) * scale of each pair, and 1.0 if it is of one class, otherwise 0.0.

    Both are float32 [B/2].
    """
    cosine = tf.cast(tf.reduce_sum(embedding[0::2] * embedding[1::2], axis=1), tf.float32)
    same = tf.cast(tf.equal(labels[0::2], labels[1::2]), tf.float32)
    return (cosine - config.offset) * config.scale, same
