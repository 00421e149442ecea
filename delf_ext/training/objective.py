"""One training step: losses of both heads, two learning rates, Keras' own `fit` around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from delf_ext.config import LossConfig
from delf_ext.losses.total import named_losses, weighted_sum

Network = Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]]


class Objective(tf.keras.Model):
    """A network with its losses; the trunk and the new heads each have an optimizer.

    Data: (images or feature maps, labels [B] int). `fit` shows every loss by its name.
    """

    def __init__(self, network: tf.keras.layers.Layer, losses: LossConfig, trunk_variables: list[tf.Variable]) -> None:
        super().__init__(name="objective")
        self.network, self.losses_config = network, losses
        trunk = {variable.ref() for variable in trunk_variables}
        self.trunk = [variable for variable in network.trainable_variables if variable.ref() in trunk]
        self.heads = [variable for variable in network.trainable_variables if variable.ref() not in trunk]
        self.means = {name: tf.keras.metrics.Mean(name=name) for name in ("loss", *losses.names)}
        if losses.train_logits:
            self.means["accuracy"] = tf.keras.metrics.Mean(name="accuracy")

    def set_optimizers(self, trunk: tf.keras.optimizers.Optimizer, heads: tf.keras.optimizers.Optimizer) -> None:
        trunk.build(self.trunk)
        heads.build(self.heads)
        self.trunk_optimizer, self.head_optimizer = trunk, heads
        self.compile()

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        return list(self.means.values())

    def call(self, images: tf.Tensor, training: bool = False) -> Any:
        return self.network(images, training=training)

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        images, labels = data
        with tf.GradientTape() as tape:
            _, endpoints = self.network(images, training=True)
            losses = named_losses(endpoints, labels, self.losses_config)
            total = weighted_sum(losses, self.losses_config)
            objective = total + tf.add_n(self.network.losses) if self.network.losses else total
        gradients = tape.gradient(objective, self.trunk + self.heads)
        self._apply(self.trunk_optimizer, gradients[: len(self.trunk)], self.trunk)
        self._apply(self.head_optimizer, gradients[len(self.trunk) :], self.heads)
        for name, value in {"loss": total, **losses}.items():
            self.means[name].update_state(value)
        if "accuracy" in self.means:
            right = tf.equal(tf.argmax(endpoints["logits"], axis=1, output_type=labels.dtype), labels)
            self.means["accuracy"].update_state(tf.reduce_mean(tf.cast(right, tf.float32)))
        return {name: mean.result() for name, mean in self.means.items()}

    @staticmethod
    def _apply(optimizer: tf.keras.optimizers.Optimizer, gradients: list, variables: list) -> None:
        """A head that no loss in use reaches has no gradient, and stays as it is."""
        reached = [(gradient, variable) for gradient, variable in zip(gradients, variables) if gradient is not None]
        if reached:
            optimizer.apply_gradients(reached)
