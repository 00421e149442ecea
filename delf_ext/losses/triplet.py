"""--train_triplet: nearer to one's own class than to any other, by a margin. The only file that knows TensorFlow Addons."""

from __future__ import annotations

import warnings

import tensorflow as tf

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # Addons announces its end of life on every import
    import tensorflow_addons as tfa


def triplet_loss(embedding: tf.Tensor, labels: tf.Tensor, margin: float) -> tf.Tensor:
    """Batch-hard triplet loss on squared-free Euclidean distances of unit vectors; embedding [B, D], labels [B].

    Source: Hermans et al., arXiv:1703.07737; `tfa.losses.triplet_hard_loss`.
    """
    return tfa.losses.triplet_hard_loss(labels, tf.cast(embedding, tf.float32), margin=margin)
