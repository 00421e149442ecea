"""Compute the loss on the most similar images of other classes."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.losses.similarities import cosines, pairs
from delf_ext.recipes.schema import HardestNegatives


def hardest_negatives(
    embedding: tf.Tensor, labels: tf.Tensor, config: HardestNegatives
) -> tf.Tensor:
    """Compute the mean pair loss over the `top_k` hardest negatives of each image.

    The hardest negatives are the most similar images of other classes. An image with fewer
    negatives counts the ones it has. The 2018 original names this loss ("max negative loss",
    top_k 5) without a formula; here it is its pair loss, with "same class" as the wrong answer.

    Args:
        embedding: float [B, D], unit length.
        labels: int [B].
        config: number of negatives, scale and offset of the pair loss.

    Returns:
        float32 scalar; 0 for a batch of one class.
    """
    similarity = cosines(embedding)
    _, negative = pairs(labels)
    # -2 is below every cosine.
    masked = tf.where(negative, similarity, -2.0)
    hardest, _ = tf.math.top_k(masked, k=tf.minimum(config.top_k, tf.shape(labels)[0]))
    counts = tf.cast(hardest > -1.5, tf.float32)
    losses = tf.nn.softplus((hardest - config.offset) * config.scale)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * counts), tf.reduce_sum(counts))
