"""Average the weights over the steps or the epochs of a run (EMA, SWA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import singledispatchmethod

import tensorflow as tf

from delf_ext.recipes import schema


class Averages:
    """Averages of the weights of a model. Training continues from the weights themselves.

    Keras' `use_ema` and TensorFlow Addons' MovingAverage and SWA belong to one optimizer, and
    average the variables of one. A run has several optimizers, and its stages train different
    parameters, so the averages are kept here.

    Attributes:
        config: `Ema` or `Swa`.
        weights: the averaged weights by name, as training changes them.
        values: their averages by name.
        count: states that were averaged so far; with 0, an average equals its weight.
    """

    def __init__(self, config: schema.Averaging, weights: Mapping[str, tf.Variable]) -> None:
        """Start with the weights as they are.

        Args:
            config: a record of a recipe.
            weights: variables of the model by name; numbers that are not floats are left out.
        """
        self.config = config
        self.weights = {
            name: variable for name, variable in weights.items() if variable.dtype.is_floating
        }
        self.values = {
            name: tf.Variable(variable, trainable=False, name="average")
            for name, variable in self.weights.items()
        }
        self.count = tf.Variable(0, dtype=tf.int64, trainable=False, name="averaged")

    def add(self) -> None:
        """Add the weights as they are to the averages; can be a part of a graph."""
        self.count.assign_add(1)
        share = self._share(self.config)
        for name, variable in self.weights.items():
            self.values[name].assign_add(share * (variable - self.values[name]))

    @singledispatchmethod
    def _share(self, config: schema.Averaging) -> tf.Tensor:
        """Return the share of the newest weights in the average, float32."""
        raise NotImplementedError

    @_share.register
    def _(self, config: schema.Ema) -> tf.Tensor:
        # Source: tf.train.ExponentialMovingAverage, `num_updates`.
        count = tf.cast(self.count, tf.float32)
        return 1.0 - tf.minimum(config.decay, (1.0 + count) / (10.0 + count))

    @_share.register
    def _(self, config: schema.Swa) -> tf.Tensor:
        return 1.0 / tf.cast(self.count, tf.float32)

    @property
    def adds_updates(self) -> bool:
        """Whether the weights are added after each update; otherwise after some epochs."""
        return isinstance(self.config, schema.Ema)

    def epoch_ended(self, num_epochs: int) -> None:
        """Add the weights if they belong to the average after this many epochs."""
        config = self.config
        if isinstance(config, schema.Swa):
            since = num_epochs - config.start_epoch
            if since >= 0 and since % config.every_epochs == 0:
                self.add()

    def refresh(self) -> None:
        """Copy the weights if no state was averaged so far."""
        if not int(self.count):
            for name, variable in self.weights.items():
                self.values[name].assign(variable)

    def apply(self) -> None:
        """Copy the averages to the weights; training cannot continue from them."""
        self.refresh()
        for name, variable in self.weights.items():
            variable.assign(self.values[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averages, and its own weights back at the end."""
        kept = {name: tf.identity(variable) for name, variable in self.weights.items()}
        self.apply()
        try:
            yield
        finally:
            for name, variable in self.weights.items():
                variable.assign(kept[name])
