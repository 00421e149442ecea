"""--train_max_neg: push away the wrong products that look most alike."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.losses.pairs import MIDPOINT, SCALE


def max_negative_loss(embedding: tf.Tensor, labels: tf.Tensor, top_k: int) -> tf.Tensor:
    """Mean sigmoid cross-entropy against "same class" over each image's `top_k` most similar images of other classes.

    embedding [B, D] of unit length, labels [B]. An image with fewer negatives counts those it has; a batch of one class is 0.
    The original names this loss ("max negative loss", top_k 5) without a formula; this is its pair loss on the hardest negatives.
    """
    similarity = tf.cast(tf.matmul(embedding, embedding, transpose_b=True), tf.float32)
    negative = tf.not_equal(labels[:, None], labels[None, :])
    masked = tf.where(negative, similarity, -2.0 * tf.ones_like(similarity))
    hardest, _ = tf.math.top_k(masked, k=tf.minimum(top_k, tf.shape(labels)[0]))
    counts = tf.cast(hardest > -1.5, tf.float32)
    losses = tf.nn.softplus((hardest - MIDPOINT) * SCALE)
    return tf.math.divide_no_nan(tf.reduce_sum(losses * counts), tf.reduce_sum(counts))
