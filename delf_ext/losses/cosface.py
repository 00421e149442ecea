"""Compute softmax cross-entropy of cosines with a margin on the cosine of the true class."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.losses.softmax import cross_entropy
from delf_ext.recipes.schema import CosFace


def cosface(logits: tf.Tensor, labels: tf.Tensor, config: CosFace) -> tf.Tensor:
    """Compute the cross-entropy of s (cos_z - m [z = y]) of each image, with y the true class.

    Source: Wang et al., arXiv:1801.09414, eq. 4.

    Args:
        logits: float32 [B, C], cosines between embeddings and class directions.
        labels: int [B].
        config: its scale is s, its margin is m; label_smoothing smooths the labels.

    Returns:
        float32 [B].
    """
    is_label = tf.one_hot(labels, tf.shape(logits)[1])
    with_margin = config.scale * (logits - config.margin * is_label)
    return cross_entropy(with_margin, labels, config.label_smoothing)
