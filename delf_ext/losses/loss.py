"""Define the interface of a loss, and make losses of functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from delf_ext.recipes import schema


class Targets(NamedTuple):
    """Ground truth of a batch.

    Attributes:
        labels: int [B].
    """

    labels: tf.Tensor


Loss: TypeAlias = Callable[[Any, Targets], tf.Tensor]
"""Function of a `models.heads.Output` and its targets: the mean loss of a batch, float32 scalar."""


def on_head(function: Callable[..., tf.Tensor]) -> Callable[[schema.Loss, str], Loss]:
    """Make a builder of losses from a function of one tensor.

    Args:
        function: takes the tensor that `config.reads` names, the labels and the config; returns a
            scalar. The tensor is unit vectors [B, d], logits [B, C] or parts [B, M, d] of the head.

    Returns:
        A function of the config and the name of a head that returns the loss.
    """

    def build(config: schema.Loss, head: str) -> Loss:
        def loss(output: Any, targets: Targets) -> tf.Tensor:
            return function(_read(output.heads[head], config.reads), targets.labels, config)

        return loss

    return build


def _read(head: Any, field: str) -> tf.Tensor:
    if field == "embedding":
        return tf.math.l2_normalize(head.vector, axis=-1)
    return tf.cast(getattr(head, field), tf.float32)
