"""One training step: the losses of a recipe, learning rates by group, Keras' own `fit` around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from delf_ext.losses.build import build_loss
from delf_ext.losses.loss import Loss, Targets
from delf_ext.models.heads import Output
from delf_ext.recipes import schema
from delf_ext.training.optimizers import Group, in_group


class Objective(tf.keras.Model):
    """A network with the losses of a recipe.

    Data: (images, or feature maps for a network that is heads alone; labels [B] int). `fit` shows every loss by its name.

    Raises:
        UsageError: for a loss that is not built yet.
    """

    def __init__(self, network: tf.keras.layers.Layer, terms: Sequence[schema.LossTerm]) -> None:
        super().__init__(name="objective")
        self.network, self.terms = network, tuple(terms)
        self.term_losses: list[Loss] = [build_loss(term.loss, term.head) for term in terms]
        heads = list(dict.fromkeys(term.head for term in terms if term.loss.reads == "logits"))
        self.accuracy_of = {
            "accuracy" if len(heads) == 1 else f"{head}_accuracy": head for head in heads
        }
        names = ("loss", *(term.shown_name for term in terms), *self.accuracy_of)
        self.means = {name: tf.keras.metrics.Mean(name=name) for name in names}
        self.groups: list[Group] = []

    def prepare(self, groups: Sequence[Group], trains: Sequence[str] = ()) -> None:
        """Use these optimizers from now on, on the parameters of the groups named in `trains` (() = on all)."""
        if trains:
            chosen = [
                [
                    parameter
                    for parameter in group.parameters
                    if any(in_group(parameter.group, name) for name in trains)
                ]
                for group in groups
            ]
            groups = [
                Group(group.optimizer, own) for group, own in zip(groups, chosen, strict=True)
            ]
        self.groups = [group for group in groups if group.parameters]
        self.compile()

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return list(self.means.values())

    def call(self, images: tf.Tensor, training: bool = False) -> Any:
        return self.network(images, training=training)

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, labels = data
        with tf.GradientTape() as tape:
            output = self.network(images, training=True)
            losses = [loss(output, Targets(labels)) for loss in self.term_losses]
            total = tf.add_n(
                [term.weight * loss for term, loss in zip(self.terms, losses, strict=True)]
            )
            penalized = total + tf.add_n(self.network.losses) if self.network.losses else total
        self._apply(tape, penalized)
        values = {
            "loss": total,
            **{term.shown_name: loss for term, loss in zip(self.terms, losses, strict=True)},
        }
        for name, value in (values | self._accuracies(output, labels)).items():
            self.means[name].update_state(value)
        return {name: mean.result() for name, mean in self.means.items()}

    def _apply(self, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        variables = [
            [parameter.variable for parameter in group.parameters] for group in self.groups
        ]
        gradients = tape.gradient(loss, variables)
        for group, of_group, own in zip(self.groups, gradients, variables, strict=True):
            # A head that no loss in use reaches has no gradient, and stays as it is.
            reached = [
                (gradient, variable)
                for gradient, variable in zip(of_group, own)
                if gradient is not None
            ]
            if reached:
                group.optimizer.apply_gradients(reached)

    def _accuracies(self, output: Output, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        found = {}
        for name, head in self.accuracy_of.items():
            right = tf.equal(
                tf.argmax(output.heads[head].logits, axis=1, output_type=labels.dtype), labels
            )
            found[name] = tf.reduce_mean(tf.cast(right, tf.float32))
        return found
