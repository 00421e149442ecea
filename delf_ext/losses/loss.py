"""Define the interface of a loss, and make losses of functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from delf_ext.recipes import schema


class Targets(NamedTuple):
    """Ground truth of a batch.

    Attributes:
        labels: int [B].
    """

    labels: tf.Tensor


class HeadOutput(Protocol):
    """Part of `models.heads.HeadOutput` that losses read."""

    @property
    def vector(self) -> tf.Tensor:
        """Vectors [B, d], not normalised."""

    @property
    def logits(self) -> tf.Tensor | None:
        """Logits [B, C], if the head has a classifier."""

    @property
    def parts(self) -> tf.Tensor | None:
        """Vectors of parts [B, M, d], if the head has parts."""


class Output(Protocol):
    """Part of `models.heads.Output` that losses read."""

    @property
    def heads(self) -> Mapping[str, Any]:
        """Output of each head by name."""


class Loss(Protocol):
    """Function that computes the loss of a batch."""

    def __call__(self, output: Output, targets: Targets) -> tf.Tensor:
        """Compute the mean loss of a batch.

        Args:
            output: of a model.
            targets: ground truth of the batch.

        Returns:
            float32 scalar.
        """


def on_head(function: Callable[..., tf.Tensor]) -> Callable[[schema.Loss, str], Loss]:
    """Make a builder of losses from a function of one tensor.

    Args:
        function: takes the tensor that `config.reads` names, the labels and the config; returns a
            scalar. The tensor is unit vectors [B, d], logits [B, C] or parts [B, M, d] of the head.

    Returns:
        A function of the config and the name of a head that returns the loss.
    """

    def build(config: schema.Loss, head: str) -> Loss:
        def loss(output: Output, targets: Targets) -> tf.Tensor:
            return function(_read(output.heads[head], config.reads), targets.labels, config)

        return loss

    return build


def _read(head: HeadOutput, field: str) -> tf.Tensor:
    if field == "embedding":
        return tf.math.l2_normalize(head.vector, axis=-1)
    return tf.cast(getattr(head, field), tf.float32)
