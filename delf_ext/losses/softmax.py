"""Compute softmax cross-entropy, with the squared error of the 2018 original on request."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.recipes.schema import SoftmaxCrossEntropy


def softmax_cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, config: SoftmaxCrossEntropy
) -> tf.Tensor:
    """Compute the cross-entropy of each image, plus the squared error of the softmax on request.

    Args:
        logits: float32 [B, C].
        labels: int [B].
        config: label_smoothing spreads this share of the target evenly over all classes (Szegedy
            et al. 2016); squared_error adds the squared error, against unsmoothed targets.

    Returns:
        float32 [B].
    """
    targets = tf.one_hot(labels, tf.shape(logits)[1])
    if config.label_smoothing:
        classes = tf.cast(tf.shape(logits)[1], tf.float32)
        smooth = targets * (1 - config.label_smoothing) + config.label_smoothing / classes
        losses = tf.nn.softmax_cross_entropy_with_logits(labels=smooth, logits=logits)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    if config.squared_error:
        losses += tf.reduce_sum(tf.square(tf.nn.softmax(logits) - targets), axis=1)
    return losses
