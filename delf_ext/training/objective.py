"""Run the training steps of a recipe: losses and learning rates by group, inside Keras' `fit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from delf_ext.losses.build import build_loss
from delf_ext.losses.loss import Loss, Targets
from delf_ext.models.heads import Output
from delf_ext.recipes import schema
from delf_ext.training.accumulation import Gradients, GradientSum
from delf_ext.training.optimizers import Group, is_trained


class Objective(tf.keras.Model):
    """A network with the losses of a recipe.

    `fit` takes (images, labels): images float32 [B, H, W, 3], or feature maps [B, h, w, C] if the
    network is only heads; labels int [B], or (labels, other labels, shares) of mixed images as in
    `Targets`. It shows each loss by its name, without its weight.
    """

    def __init__(
        self,
        network: tf.keras.layers.Layer,
        terms: Sequence[schema.LossTerm],
        images_per_class: Sequence[int] = (),
    ) -> None:
        """Build the losses.

        Args:
            network: returns an `Output`.
            terms: losses of the recipe, with their heads and weights.
            images_per_class: training images of each class, by label; () for losses that do not
                weigh classes.

        Raises:
            UsageError: if a loss is not built yet.
        """
        super().__init__(name="objective")
        self.network = network
        self.terms = tuple(terms)
        self.term_losses: list[Loss] = [
            build_loss(term.loss, term.head, images_per_class) for term in terms
        ]
        heads = list(dict.fromkeys(term.head for term in terms if term.loss.reads == "logits"))
        self.head_by_accuracy = {
            "accuracy" if len(heads) == 1 else f"{head}_accuracy": head for head in heads
        }
        names = ("loss", *(term.shown_name for term in terms), *self.head_by_accuracy)
        self.means = {name: tf.keras.metrics.Mean(name=name) for name in names}
        self.groups: list[Group] = []
        self.gradient_sum: GradientSum | None = None
        self.after_update: Callable[[], None] = _nothing

    def prepare(
        self,
        groups: Sequence[Group],
        trains: Sequence[str] = (),
        batches_per_update: int = 1,
        after_update: Callable[[], None] | None = None,
    ) -> None:
        """Set what the next `fit` trains.

        Args:
            groups: optimizers with their parameters.
            trains: names of the parameter groups to train; () for all.
            batches_per_update: with more than one, gradients are added up until
                `gradient_sum.is_last` is true.
            after_update: part of the graph that runs after each update; None = nothing.
        """
        self.groups = []
        for group in groups:
            parameters = [
                parameter for parameter in group.parameters if is_trained(parameter, trains)
            ]
            if parameters:
                self.groups.append(group._replace(parameters=parameters))
        self.after_update = after_update or _nothing
        self.gradient_sum = None
        if batches_per_update > 1:
            self.gradient_sum = GradientSum(self._variables())
        # Keras traces the training step again only if the model is compiled again.
        self.compile()

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """Metrics that Keras resets at the start of an epoch."""
        return list(self.means.values())

    def train_step(self, data: tuple[tf.Tensor, Any]) -> dict[str, tf.Tensor]:
        """Train on one batch.

        Args:
            data: (images, labels), see the class.

        Returns:
            Means over the epoch so far, by name.
        """
        images, labels = data
        targets = Targets(*labels) if isinstance(labels, tuple) else Targets(labels)
        with tf.GradientTape() as tape:
            output = self.network(images, training=True)
            losses = [loss(output, targets) for loss in self.term_losses]
            weighted = [term.weight * loss for term, loss in zip(self.terms, losses, strict=True)]
            total = tf.add_n(weighted)
            penalized = total
            if self.network.losses:
                penalized = total + tf.add_n(self.network.losses)
        gradients = tape.gradient(penalized, self._variables())
        if self.gradient_sum is None:
            self._update(gradients)
        else:
            self.gradient_sum.add(gradients)
            tf.cond(self.gradient_sum.is_last, lambda: self._update_by_mean(gradients), _nothing)
        values = {"loss": total}
        for term, loss in zip(self.terms, losses, strict=True):
            values[term.shown_name] = loss
        values.update(self._accuracies(output, targets.larger))
        for name, value in values.items():
            self.means[name].update_state(value)
        return {name: mean.result() for name, mean in self.means.items()}

    def _variables(self) -> list[list[tf.Variable]]:
        """Return the variables of each group that are trained now."""
        return [[parameter.variable for parameter in group.parameters] for group in self.groups]

    def _update_by_mean(self, gradients: Gradients) -> None:
        """Update by the mean gradient; `gradients` says which ones are None."""
        assert self.gradient_sum is not None
        self._update(self.gradient_sum.take_mean(gradients))

    def _update(self, gradients: Gradients) -> None:
        for group, group_gradients, group_variables in zip(
            self.groups, gradients, self._variables(), strict=True
        ):
            # A head that no loss reads has no gradient.
            with_gradient = [
                (gradient, variable)
                for gradient, variable in zip(group_gradients, group_variables)
                if gradient is not None
            ]
            if with_gradient:
                group.optimizer.apply_gradients(with_gradient)
        self.after_update()

    def _accuracies(self, output: Output, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        accuracies = {}
        for name, head in self.head_by_accuracy.items():
            logits = output.heads[head].logits
            predicted = tf.argmax(logits, axis=1, output_type=labels.dtype)
            is_right = tf.cast(tf.equal(predicted, labels), tf.float32)
            accuracies[name] = tf.reduce_mean(is_right)
        return accuracies


def _nothing() -> None:
    """Do nothing."""
