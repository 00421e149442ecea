"""--train_sim and --train_sim_dist: are these two photographs of the same product?

Both look at the pairs (0, 1), (2, 3), ... of a batch; `data_io.sampling` orders batches so that half of them are of one class.
"""

from __future__ import annotations

import tensorflow as tf

SCALE = 32.0  # of the original: cosine 0.5 is an even bet, 1.0 is certain
MIDPOINT = 0.5


def pair_similarities(embedding: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosine of each pair [B/2] and 1.0 where it shows one class [B/2]. embedding [B, D] of unit length, labels [B]."""
    cosine = tf.reduce_sum(embedding[0::2] * embedding[1::2], axis=1)
    same = tf.cast(tf.equal(labels[0::2], labels[1::2]), tf.float32)
    return tf.cast(cosine, tf.float32), same


def similarity_loss(embedding: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Sigmoid cross-entropy on (cosine - 0.5) * 32. Source: the hackathon system (DESIGN section 7)."""
    cosine, same = pair_similarities(embedding, labels)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=same, logits=(cosine - MIDPOINT) * SCALE))


def similarity_distance_loss(embedding: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Squared error of the same sigmoid. Source: the original's help text, "jointly using squared loss"."""
    cosine, same = pair_similarities(embedding, labels)
    return tf.reduce_mean(tf.square(tf.sigmoid((cosine - MIDPOINT) * SCALE) - same))
