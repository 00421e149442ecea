"""The weighted sum of the losses that a configuration asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import tensorflow as tf

from delf_ext.losses.classification import classification_loss
from delf_ext.losses.max_negative import max_negative_loss
from delf_ext.losses.pairs import similarity_distance_loss, similarity_loss


class Weights(Protocol):
    """What this file needs to know of a loss configuration."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def train_max_neg_topk(self) -> int: ...
    @property
    def margin(self) -> float: ...
    def weight(self, name: str) -> float: ...


def named_losses(endpoints: Mapping[str, tf.Tensor], labels: tf.Tensor, config: Weights) -> dict[str, tf.Tensor]:
    """Each loss in use, unweighted. endpoints: "embedding" [B, D], and "logits" [B, C] when those are trained."""
    losses = {}
    for name in config.names:
        if name == "logits":
            losses[name] = classification_loss(endpoints["logits"], labels)
        elif name == "sim":
            losses[name] = similarity_loss(endpoints["embedding"], labels)
        elif name == "sim_dist":
            losses[name] = similarity_distance_loss(endpoints["embedding"], labels)
        elif name == "max_neg":
            losses[name] = max_negative_loss(endpoints["embedding"], labels, config.train_max_neg_topk)
        else:
            from delf_ext.losses.triplet import triplet_loss  # Addons takes seconds to import

            losses[name] = triplet_loss(endpoints["embedding"], labels, config.margin)
    return losses


def weighted_sum(losses: Mapping[str, tf.Tensor], config: Weights) -> tf.Tensor:
    return tf.add_n([config.weight(name) * loss for name, loss in losses.items()])
