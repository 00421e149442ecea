"""Compare the images of a batch: cosines, distances, and which pairs are of one class.

Products are computed in float64. Mixed precision (oneDNN) rounds those of float32 to bfloat16, with
errors of .002 in a cosine: two images at a distance of 0.07 would get the distance 0.
"""

from __future__ import annotations

import tensorflow as tf

SMALLEST_SQUARE = 1e-12
"""Squared distance below which a distance has no gradient; that of a root is infinite at 0."""


def cosines(embedding: tf.Tensor) -> tf.Tensor:
    """Compute the cosine of each pair.

    Args:
        embedding: float [B, D], unit length.

    Returns:
        float32 [B, B].
    """
    return tf.cast(_products(embedding), tf.float32)


def distances(embedding: tf.Tensor) -> tf.Tensor:
    """Compute the Euclidean distance of each pair.

    Args:
        embedding: float [B, D].

    Returns:
        float32 [B, B], at least 1e-6.
    """
    products = _products(embedding)
    squares = tf.linalg.diag_part(products)
    squared = squares[:, None] + squares[None, :] - 2 * products
    return tf.cast(tf.sqrt(tf.maximum(squared, SMALLEST_SQUARE)), tf.float32)


def _products(embedding: tf.Tensor) -> tf.Tensor:
    exact = tf.cast(embedding, tf.float64)
    return tf.matmul(exact, exact, transpose_b=True)


def pairs(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return which pairs of different images are of one class, and which are of two classes.

    Args:
        labels: int [B].

    Returns:
        Positive and negative pairs, bool [B, B].
    """
    same = tf.equal(labels[:, None], labels[None, :])
    itself = tf.eye(tf.shape(labels)[0], dtype=tf.bool)
    return tf.logical_and(same, tf.logical_not(itself)), tf.logical_not(same)


def mean_where(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Return the mean of the chosen values; 0 if none is chosen.

    Args:
        values: float of any shape, finite.
        chosen: bool of the same shape.

    Returns:
        Scalar.
    """
    counts = tf.cast(chosen, values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values * counts), tf.reduce_sum(counts))


def log_one_plus_sum_exp(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Compute log(1 + sum of exp(value) over the chosen values of a row) without overflow.

    Args:
        values: float [R, N].
        chosen: bool [R, N].

    Returns:
        [R]; 0 for a row without chosen values.
    """
    masked = tf.where(chosen, values, values.dtype.min)
    # The 1 in the formula is exp(0).
    with_zero = tf.pad(masked, [[0, 0], [0, 1]])
    return tf.reduce_logsumexp(with_zero, axis=1)
