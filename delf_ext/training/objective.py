"""One training step: losses of both heads, two learning rates, Keras' own `fit` around it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from delf_ext.config import LossConfig
from delf_ext.losses.total import named_losses, weighted_sum

Network = Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]]


class Objective(tf.keras.Model):
    """A network with its losses, and two optimizers: a fast one for attention and classifier, one for all the rest.

    The classifier reads averages of unit vectors, whose entries are near 1/45, and learns slowly at the trunk's rate. The
    similarity branch reads sums of raw features, large numbers, and ends worse at the classifier's rate.

    Data: (images or feature maps, labels [B] int). `fit` shows every loss by its name.
    """

    def __init__(self, network: tf.keras.layers.Layer, losses: LossConfig, fast_variables: list[tf.Variable]) -> None:
        super().__init__(name="objective")
        self.network, self.losses_config = network, losses
        self.fast = list(fast_variables)
        fast = {variable.ref() for variable in fast_variables}
        self.slow = [variable for variable in network.trainable_variables if variable.ref() not in fast]
        self.means = {name: tf.keras.metrics.Mean(name=name) for name in ("loss", *losses.names)}
        if losses.train_logits:
            self.means["accuracy"] = tf.keras.metrics.Mean(name="accuracy")

    def set_optimizers(self, slow: tf.keras.optimizers.Optimizer, fast: tf.keras.optimizers.Optimizer) -> None:
        slow.build(self.slow)
        fast.build(self.fast)
        self.slow_optimizer, self.fast_optimizer = slow, fast
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
        gradients = tape.gradient(objective, self.slow + self.fast)
        self._apply(self.slow_optimizer, gradients[: len(self.slow)], self.slow)
        self._apply(self.fast_optimizer, gradients[len(self.slow) :], self.fast)
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
