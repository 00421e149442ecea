"""Define the interface of a loss, and make losses of functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from delf_ext.recipes import schema


class Targets(NamedTuple):
    """Ground truth of a batch.

    Attributes:
        labels: int [B].
        other_labels: int [B], second label of images that were mixed; None without mixing.
        shares: float32 [B], share of `labels` in each image, 0..1; None without mixing.
    """

    labels: tf.Tensor
    other_labels: tf.Tensor | None = None
    shares: tf.Tensor | None = None

    @property
    def larger(self) -> tf.Tensor:
        """Label with the larger share of each image, int [B]."""
        if self.shares is None:
            return self.labels
        return tf.where(self.shares >= 0.5, self.labels, self.other_labels)


Loss: TypeAlias = Callable[[Any, Targets], tf.Tensor]
"""Function of a `models.heads.Output` and its targets: the mean loss of a batch, float32 scalar."""
Build: TypeAlias = Callable[..., Loss]
"""Function of a loss record, the name of a head and the training images of each class."""


def on_head(function: Callable[..., tf.Tensor]) -> Build:
    """Make a builder of losses from a function of one tensor.

    Args:
        function: takes the tensor that `config.reads` names, the labels and the config; returns a
            scalar. The tensor is unit vectors [B, d], logits [B, C] or parts [B, M, d] of the head.

    Returns:
        The builder.
    """

    def build(config: schema.Loss, head: str, images_per_class: Sequence[int] = ()) -> Loss:
        def loss(output: Any, targets: Targets) -> tf.Tensor:
            if targets.shares is not None:
                raise ValueError(f"{type(config).__name__} is not defined for mixed images.")
            return function(_read(output.heads[head], config.reads), targets.labels, config)

        return loss

    return build


def on_logits(function: Callable[..., tf.Tensor]) -> Build:
    """Make a builder of losses from a function of the logits that judges each image by itself.

    A mixed image has the mean of the losses for its two labels, weighted by their shares (Zhang et
    al., arXiv:1710.09412, section 2).

    Args:
        function: takes logits float32 [B, C], the labels and the config; returns a loss for each
            image, float32 [B].

    Returns:
        The builder.
    """

    def build(config: schema.Loss, head: str, images_per_class: Sequence[int] = ()) -> Loss:
        def loss(output: Any, targets: Targets) -> tf.Tensor:
            logits = _read(output.heads[head], config.reads)
            losses = function(logits, targets.labels, config)
            if targets.shares is not None:
                other_losses = function(logits, targets.other_labels, config)
                losses = targets.shares * losses + (1 - targets.shares) * other_losses
            return tf.reduce_mean(losses)

        return loss

    return build


def _read(head: Any, field: str) -> tf.Tensor:
    if field == "embedding":
        # In mixed precision, vectors that are normalized in float32 have lengths of .997 to 1.003.
        return tf.cast(tf.math.l2_normalize(tf.cast(head.vector, tf.float64), axis=-1), tf.float32)
    return tf.cast(getattr(head, field), tf.float32)
