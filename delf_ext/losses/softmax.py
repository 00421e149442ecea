"""Which product is it? Softmax cross-entropy, and the original's squared error of the softmax."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.recipes.schema import SoftmaxCrossEntropy


def softmax_cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, config: SoftmaxCrossEntropy
) -> tf.Tensor:
    """Return the mean cross-entropy, plus the mean squared error of the softmax where the recipe asks for it.

    Args:
        logits: [B, C] float32.
        labels: [B] int.
        config: label_smoothing moves that share of the target to all classes alike (Szegedy et al. 2016).
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
    return tf.reduce_mean(losses)
