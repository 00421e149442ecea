"""Are these two photographs of one product?

Both losses look at the pairs (0, 1), (2, 3), ... of a batch; `data_io.sampling` orders batches so that half of them are
of one class. The original's numbers: cosine 0.5 is an even bet, 1.0 is certain.
"""

from __future__ import annotations

import tensorflow as tf

from delf_ext.recipes.schema import PairSimilarity, PairSquaredError


def pair_similarities(embedding: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the cosine of each pair [B/2], and 1.0 where it shows one class [B/2].

    Args:
        embedding: [B, D] of unit length.
        labels: [B] int.
    """
    cosine = tf.reduce_sum(embedding[0::2] * embedding[1::2], axis=1)
    same = tf.cast(tf.equal(labels[0::2], labels[1::2]), tf.float32)
    return tf.cast(cosine, tf.float32), same


def pair_similarity(embedding: tf.Tensor, labels: tf.Tensor, config: PairSimilarity) -> tf.Tensor:
    """Return the mean sigmoid cross-entropy of (cosine - offset) * scale. Source: the hackathon system."""
    cosine, same = pair_similarities(embedding, labels)
    logits = (cosine - config.offset) * config.scale
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=same, logits=logits))


def pair_squared_error(
    embedding: tf.Tensor, labels: tf.Tensor, config: PairSquaredError
) -> tf.Tensor:
    """Return the mean squared error of the same sigmoid. Source: the original's help, "jointly using squared loss"."""
    cosine, same = pair_similarities(embedding, labels)
    return tf.reduce_mean(tf.square(tf.sigmoid((cosine - config.offset) * config.scale) - same))
