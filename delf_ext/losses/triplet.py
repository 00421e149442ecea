"""Nearer to one's own class than to any other, by a margin. The only file that knows TensorFlow Addons."""

from __future__ import annotations

import warnings

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.losses.loss import Loss, on_head
from delf_ext.recipes.schema import Triplet


def build_triplet(config: Triplet, head: str) -> Loss:
    """Return the loss on the head of that name. Raises: UsageError for a mining that is not built yet."""
    if config.mining != "batch_hard":
        raise UsageError(f'Triplet.mining "{config.mining}" is not built yet. Built: "batch_hard".')
    return on_head(triplet)(config, head)


def triplet(embedding: tf.Tensor, labels: tf.Tensor, config: Triplet) -> tf.Tensor:
    """Return the batch-hard triplet loss on Euclidean distances of unit vectors.

    Source: Hermans et al., arXiv:1703.07737; `tfa.losses.triplet_hard_loss`.

    Args:
        embedding: [B, D] of unit length.
        labels: [B] int.
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # Addons announces its end of life on every import
        import tensorflow_addons as tfa  # takes seconds: not before the loss is used
    return tfa.losses.triplet_hard_loss(
        labels, tf.cast(embedding, tf.float32), margin=config.margin
    )
