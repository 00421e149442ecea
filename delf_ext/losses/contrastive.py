"""Compute the contrastive loss of all pairs of a batch."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.losses.similarities import distances, mean_where, pairs
from delf_ext.recipes.schema import Contrastive


def contrastive(embedding: tf.Tensor, labels: tf.Tensor, config: Contrastive) -> tf.Tensor:
    """Compute D^2 / 2 of pairs of one class, and max(0, margin - D)^2 / 2 of the others.

    D is the Euclidean distance. The loss is the mean over the first pairs plus the mean over the
    others: a batch has many more of the others.

    Source: Hadsell et al., CVPR 2006, eq. 4.

    Args:
        embedding: float [B, D], unit length.
        labels: int [B].
        config: its margin is used.

    Returns:
        float32 scalar; pairs of a kind that the batch does not have count 0.
    """
    distance = distances(embedding)
    positive, negative = pairs(labels)
    near = tf.square(distance) / 2
    far = tf.square(tf.nn.relu(config.margin - distance)) / 2
    return mean_where(near, positive) + mean_where(far, negative)
