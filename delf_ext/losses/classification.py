"""--train_logits: which product is it?"""

from __future__ import annotations

import tensorflow as tf


def classification_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Softmax cross-entropy plus squared error of the softmax, each a mean over the batch.

    logits [B, C], labels [B] int. Source: the hackathon system (DESIGN section 7).
    """
    logits = tf.cast(logits, tf.float32)
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    one_hot = tf.one_hot(labels, tf.shape(logits)[1])
    squared_error = tf.reduce_sum(tf.square(tf.nn.softmax(logits) - one_hot), axis=1)
    return tf.reduce_mean(cross_entropy + squared_error)
