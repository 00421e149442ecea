"""The contract of a loss, and how a function of one tensor becomes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from delf_ext.recipes import schema


class Targets(NamedTuple):
    """What a batch shows: labels [B] int; label_paths [B, L] int, -1 pads, or None."""

    labels: tf.Tensor
    label_paths: tf.Tensor | None = None


class HeadOutput(Protocol):
    """What a loss reads of a head: see `models.heads.HeadOutput`."""

    @property
    def vector(self) -> tf.Tensor: ...
    @property
    def logits(self) -> tf.Tensor | None: ...
    @property
    def parts(self) -> tf.Tensor | None: ...


class Output(Protocol):
    """What a loss reads of a model: see `models.heads.Output`."""

    @property
    def heads(self) -> Mapping[str, Any]: ...


class Loss(Protocol):
    """Call: (output of the model, targets) -> scalar, a mean over the batch."""

    def __call__(self, output: Output, targets: Targets) -> tf.Tensor: ...


def on_head(function: Callable[..., tf.Tensor]) -> Callable[[schema.Loss, str], Loss]:
    """Return a builder (config, head) -> Loss from a function (tensor, labels, config) -> scalar.

    The tensor is what `config.reads` names: the head's unit vectors [B, d], its logits [B, C] or its parts [B, M, d].
    """

    def build(config: schema.Loss, head: str) -> Loss:
        def loss(output: Output, targets: Targets) -> tf.Tensor:
            return function(_read(output.heads[head], config.reads), targets.labels, config)

        return loss

    return build


def _read(head: HeadOutput, what: str) -> tf.Tensor:
    if what == "embedding":
        return tf.math.l2_normalize(head.vector, axis=-1)
    return tf.cast(getattr(head, what), tf.float32)
