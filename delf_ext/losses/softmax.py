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
        config: label_smoothing is used; squared_error adds the squared error, against unsmoothed
            targets.

    Returns:
        float32 [B].
    """
    losses = cross_entropy(logits, labels, config.label_smoothing)
    if config.squared_error:
        targets = tf.one_hot(labels, tf.shape(logits)[1])
        losses += tf.reduce_sum(tf.square(tf.nn.softmax(logits) - targets), axis=1)
    return losses


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor, label_smoothing: float) -> tf.Tensor:
    """Compute the cross-entropy of each image against smoothed labels.

    Source: Szegedy et al., arXiv:1512.00567, section 7.

    Args:
        logits: float32 [B, C].
        labels: int [B].
        label_smoothing: share of the target that is spread evenly over all classes.

    Returns:
        float32 [B].
    """
    if not label_smoothing:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    num_classes = tf.shape(logits)[1]
    spread = label_smoothing / tf.cast(num_classes, tf.float32)
    smooth = tf.one_hot(labels, num_classes) * (1 - label_smoothing) + spread
    return tf.nn.softmax_cross_entropy_with_logits(labels=smooth, logits=logits)
