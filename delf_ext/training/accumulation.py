"""Add the gradients of several batches, for one update by their mean."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

Gradients = list[list[tf.Tensor | None]]
"""Gradient of each parameter of each group; None of a parameter that no loss reads."""


class GradientSum:
    """Sum of the gradients since the last update.

    It is empty whenever a checkpoint is saved, so it is not a part of one.

    Attributes:
        is_last: bool, whether the next batch is the last one before an update.
        num_batches: float32, batches in the sum.
    """

    def __init__(self, variables: Sequence[Sequence[tf.Variable]]) -> None:
        """Create a zero for each variable.

        Args:
            variables: of each group.
        """
        self.is_last = tf.Variable(True, trainable=False)
        self.num_batches = tf.Variable(0.0, trainable=False)
        self._sums = [
            [tf.Variable(tf.zeros_like(variable), trainable=False) for variable in group]
            for group in variables
        ]

    def add(self, gradients: Gradients) -> None:
        """Add the gradients of a batch; in the shape of the variables."""
        self.num_batches.assign_add(1.0)
        for sums, group in zip(self._sums, gradients, strict=True):
            for total, gradient in zip(sums, group, strict=True):
                if gradient is not None:
                    total.assign_add(gradient)

    def take_mean(self, gradients: Gradients) -> Gradients:
        """Return the mean gradients and start again; None where `gradients` has None."""
        means: Gradients = []
        for sums, group in zip(self._sums, gradients, strict=True):
            means.append([])
            for total, gradient in zip(sums, group, strict=True):
                means[-1].append(None if gradient is None else total / self.num_batches)
        with tf.control_dependencies(
            [mean for group in means for mean in group if mean is not None]
        ):
            self.num_batches.assign(0.0)
            for total in (total for sums in self._sums for total in sums):
                total.assign(tf.zeros_like(total))
        return means
