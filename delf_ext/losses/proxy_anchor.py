"""Compute the proxy-anchor loss, whose proxies are the class directions of a cosine classifier."""

from __future__ import annotations

import tensorflow as tf

from delf_ext.losses.similarities import log_one_plus_sum_exp, mean_where
from delf_ext.recipes.schema import ProxyAnchor


def proxy_anchor(logits: tf.Tensor, labels: tf.Tensor, config: ProxyAnchor) -> tf.Tensor:
    """Compute the mean over classes of the soft maxima of their hard images in the batch.

    For a class with cosines S to the images: log(1 + sum exp(-alpha (S - delta))) over its own
    images, as a mean over the classes of the batch; plus log(1 + sum exp(alpha (S + delta))) over
    the images of other classes, as a mean over all classes.

    Source: Kim et al., arXiv:2003.13911, eq. 4.

    Args:
        logits: float32 [B, C], cosines between embeddings and class directions.
        labels: int [B].
        config: its scale is alpha, its margin is delta.

    Returns:
        float32 scalar.
    """
    similarity = tf.transpose(logits)
    num_classes = tf.shape(similarity)[0]
    own = tf.equal(tf.range(num_classes, dtype=labels.dtype)[:, None], labels[None, :])
    near = log_one_plus_sum_exp(-config.scale * (similarity - config.margin), own)
    far = log_one_plus_sum_exp(config.scale * (similarity + config.margin), tf.logical_not(own))
    return mean_where(near, tf.reduce_any(own, axis=1)) + tf.reduce_mean(far)
