"""Push away the wrong products that look most alike."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.recipes.schema import HardestNegatives


def hardest_negatives(
    embedding: tf.Tensor, labels: tf.Tensor, config: HardestNegatives
) -> tf.Tensor:
    """Return the mean pair loss against "same class" over each image's `top_k` most similar images of other classes.

    The original names this loss ("max negative loss", top_k 5) without a formula; this is its pair loss on the hardest
    negatives. An image with fewer negatives counts those it has; a batch of one class is 0.

    Args:
        embedding: [B, D] of unit length.
        labels: [B] int.
    """
    similarity = tf.cast(tf.matmul(embedding, embedding, transpose_b=True), tf.float32)
    negative = tf.not_equal(labels[:, None], labels[None, :])
    masked = tf.where(negative, similarity, -2.0 * tf.ones_like(similarity))
    hardest, _ = tf.math.top_k(masked, k=tf.minimum(config.top_k, tf.shape(labels)[0]))
    counts = tf.cast(hardest > -1.5, tf.float32)
    losses = tf.nn.softplus((hardest - config.offset) * config.scale)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * counts), tf.reduce_sum(counts))
