"""Softmax over cosines: the class directions are proxies of the classes."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.recipes.schema import NormSoftmax


def norm_softmax(logits: tf.Tensor, labels: tf.Tensor, config: NormSoftmax) -> tf.Tensor:
    """Return the mean of -log(exp(cos_y / T) / sum_z exp(cos_z / T)). Source: Zhai and Wu, arXiv:1811.12649, eq. 2.

    Args:
        logits: [B, C] float32, cosines between embedding and class directions.
        labels: [B] int.
        config: its temperature is T.
    """
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits / config.temperature
    )
    return tf.reduce_mean(losses)
