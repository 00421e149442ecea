"""Compute the supervised contrastive loss of a batch."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.losses.similarities import cosines, mean_where, pairs
from delf_ext.recipes.schema import SupervisedContrastive


def supervised_contrastive(
    embedding: tf.Tensor, labels: tf.Tensor, config: SupervisedContrastive
) -> tf.Tensor:
    """Compute the mean, over images and their positives, of -log softmax of cosine / T.

    The softmax is over all other images of the batch. The mean over the positives of an image is
    taken outside the logarithm, as the paper recommends. An image without positives does not count.

    Source: Khosla et al., arXiv:2004.11362, eq. 2.

    Args:
        embedding: float [B, D], unit length.
        labels: int [B].
        config: its temperature is T.

    Returns:
        float32 scalar; 0 for a batch without pairs of one class.
    """
    logits = cosines(embedding) / config.temperature
    positive, negative = pairs(labels)
    others = tf.where(tf.logical_or(positive, negative), logits, logits.dtype.min)
    losses = tf.reduce_logsumexp(others, axis=1, keepdims=True) - logits
    weights = tf.cast(positive, tf.float32)
    counts = tf.reduce_sum(weights, axis=1)
    of_images = tf.math.divide_no_nan(tf.reduce_sum(losses * weights, axis=1), counts)
    return mean_where(of_images, counts > 0)
