"""Compute the batch-hard triplet loss. This is the only file that imports TensorFlow Addons."""

from __future__ import annotations

import importlib.util
import warnings

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.losses.loss import Loss, on_head
from delf_ext.recipes.schema import Triplet


def build_triplet(config: Triplet, head: str) -> Loss:
    """Build the triplet loss of a recipe.

    Args:
        config: the loss record.
        head: name of the head that the loss reads.

    Returns:
        The loss.

    Raises:
        UsageError: if its mining is not built yet, or TensorFlow Addons is not installed.
    """
    if not _has_addons():
        raise UsageError(
            "the triplet loss (--train_triplet) needs the package tensorflow-addons 0.23, which is "
            "not installed. It has no version for Windows: train on Linux or macOS, or choose "
            "another loss, such as --train_sim or --train_max_neg."
        )
    if config.mining != "batch_hard":
        raise UsageError(f'Triplet.mining "{config.mining}" is not built yet. Built: "batch_hard".')
    return on_head(triplet)(config, head)


def _has_addons() -> bool:
    try:
        return importlib.util.find_spec("tensorflow_addons") is not None
    except ValueError:
        # sys.modules holds None for it: the import is switched off.
        return False


def triplet(embedding: tf.Tensor, labels: tf.Tensor, config: Triplet) -> tf.Tensor:
    """Compute the batch-hard triplet loss on Euclidean distances of unit vectors.

    Source: Hermans et al., arXiv:1703.07737; `tfa.losses.triplet_hard_loss`.

    Args:
        embedding: float [B, D], unit length.
        labels: int [B].
        config: its margin is used.

    Returns:
        float32 scalar.
    """
    with warnings.catch_warnings():
        # Addons warns about its end of life. The import is here because it takes seconds.
        warnings.simplefilter("ignore", UserWarning)
        import tensorflow_addons as tfa
    return tfa.losses.triplet_hard_loss(
        labels, tf.cast(embedding, tf.float32), margin=config.margin
    )
