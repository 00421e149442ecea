"""Compute triplet losses. This is the only file of the losses that imports TensorFlow Addons."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.losses.loss import Loss, on_head
from delf_ext.losses.similarities import distances, pairs
from delf_ext.recipes.schema import Triplet


def build_triplet(config: Triplet, head: str, images_per_class: Sequence[int] = ()) -> Loss:
    """Build the triplet loss of a recipe.

    Args:
        config: the loss record.
        head: name of the head that the loss reads.
        images_per_class: not read.

    Returns:
        The loss.

    Raises:
        UsageError: TensorFlow Addons is not installed.
    """
    if not _has_addons():
        raise UsageError(
            "the triplet loss (--train_triplet) needs the package tensorflow-addons 0.23, which is "
            "not installed. It has no version for Windows: train on Linux or macOS, or choose "
            "another loss, such as --train_sim or --train_max_neg."
        )
    return on_head(triplet)(config, head)


def _has_addons() -> bool:
    try:
        return importlib.util.find_spec("tensorflow_addons") is not None
    except ValueError:
        # sys.modules holds None for it: the import is switched off.
        return False


def triplet(embedding: tf.Tensor, labels: tf.Tensor, config: Triplet) -> tf.Tensor:
    """Compute the triplet loss on Euclidean distances of unit vectors.

    Batch-hard: the mean over images of max(0, D(farthest positive) - D(nearest negative) + margin).
    Semi-hard: the mean over pairs of one class of the same formula, with the nearest negative that
    is farther away than the positive, or the farthest negative if none is.

    Source: Hermans et al., arXiv:1703.07737, and Schroff et al., arXiv:1503.03832;
    `tfa.losses.triplet_hard_loss` and `triplet_semihard_loss`.

    Args:
        embedding: float [B, D], unit length.
        labels: int [B].
        config: margin and mining are used.

    Returns:
        float32 scalar; semi-hard: 0 for a batch without pairs of one class.
    """
    with warnings.catch_warnings():
        # Addons warns about its end of life. The import is here because it takes seconds.
        warnings.simplefilter("ignore", UserWarning)
        import tensorflow_addons as tfa
    embedding = tf.cast(embedding, tf.float32)
    options = {"margin": config.margin, "distance_metric": distances}
    if config.mining == "batch_hard":
        return tfa.losses.triplet_hard_loss(labels, embedding, **options)
    positive, _ = pairs(labels)
    # Addons divides by the number of such pairs.
    return tf.cond(
        tf.reduce_any(positive),
        lambda: tfa.losses.triplet_semihard_loss(labels, embedding, **options),
        lambda: tf.zeros([]),
    )
