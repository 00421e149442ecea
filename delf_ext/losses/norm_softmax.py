"""Compute the normalized softmax loss, over cosines between embeddings and class directions."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.losses.softmax import cross_entropy
from delf_ext.recipes.schema import NormSoftmax


def norm_softmax(logits: tf.Tensor, labels: tf.Tensor, config: NormSoftmax) -> tf.Tensor:
    """Compute -log(exp(cos_y / T) / sum_z exp(cos_z / T)) of each image.

    Source: Zhai and Wu, arXiv:1811.12649, eq. 2.

    Args:
        logits: float32 [B, C], cosines between embeddings and class directions.
        labels: int [B].
        config: its temperature is T; label_smoothing smooths the labels.

    Returns:
        float32 [B].
    """
    return cross_entropy(logits / config.temperature, labels, config.label_smoothing)
