"""Compute the multi-similarity loss of a batch, with its choice of pairs."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.losses.similarities import cosines, log_one_plus_sum_exp, pairs
from delf_ext.recipes.schema import MultiSimilarity


def multi_similarity(embedding: tf.Tensor, labels: tf.Tensor, config: MultiSimilarity) -> tf.Tensor:
    """Compute the mean of the soft maxima of each image's hard positives and negatives.

    For an image with cosines S: log(1 + sum exp(-alpha (S - offset))) / alpha over its positives,
    plus log(1 + sum exp(beta (S - offset))) / beta over its negatives. A negative counts if it is
    nearer than the farthest positive, and a positive if it is farther than the nearest negative,
    both with the tolerance `mining_margin`.

    Source: Wang et al., arXiv:1904.06627, eq. 10, 11 and 15.

    Args:
        embedding: float [B, D], unit length.
        labels: int [B].
        config: positive_scale is alpha, negative_scale is beta.

    Returns:
        float32 scalar.
    """
    similarity = cosines(embedding)
    positive, negative = pairs(labels)
    # Without positives no negative counts, and the other way round: 3 and -3 are no cosines.
    least_positive = tf.reduce_min(tf.where(positive, similarity, 3.0), axis=1, keepdims=True)
    most_negative = tf.reduce_max(tf.where(negative, similarity, -3.0), axis=1, keepdims=True)
    positive &= similarity < most_negative + config.mining_margin
    negative &= similarity > least_positive - config.mining_margin
    shifted = similarity - config.offset
    near = log_one_plus_sum_exp(-config.positive_scale * shifted, positive) / config.positive_scale
    far = log_one_plus_sum_exp(config.negative_scale * shifted, negative) / config.negative_scale
    return tf.reduce_mean(near + far)
