"""Build the learning rate over the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from itertools import accumulate
from typing import TypeAlias

import tensorflow as tf

from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part

Rate: TypeAlias = float | tf.keras.optimizers.schedules.LearningRateSchedule


@singledispatch
def build_schedule(config: Part, base: float, epochs: int, steps_per_epoch: int) -> Rate:
    """Build the learning rate of one stage, whose steps count from 0.

    Args:
        config: a schedule record.
        base: the highest learning rate.
        epochs: number of epochs of the stage.
        steps_per_epoch: batches in an epoch.

    Returns:
        A number, or a function of the step.

    Raises:
        NotBuilt: if the schedule is not built yet.
    """
    raise NotBuilt(config, build_schedule)


@build_schedule.register
def _(config: schema.Constant, base: float, epochs: int, steps_per_epoch: int) -> Rate:
    return base


@build_schedule.register
def _(config: schema.CosineDecay, base: float, epochs: int, steps_per_epoch: int) -> Rate:
    """Decay to zero at the last step (Loshchilov and Hutter, arXiv:1608.03983)."""
    warmup_steps = config.warmup_epochs * steps_per_epoch
    cosine_decay = tf.keras.optimizers.schedules.CosineDecay
    if not warmup_steps:
        return cosine_decay(base, epochs * steps_per_epoch)
    decay_steps = max(1, epochs - config.warmup_epochs) * steps_per_epoch
    return cosine_decay(0.0, decay_steps, warmup_target=base, warmup_steps=warmup_steps)


@build_schedule.register
def _(config: schema.StepDecay, base: float, epochs: int, steps_per_epoch: int) -> Rate:
    return tf.keras.optimizers.schedules.ExponentialDecay(
        base, config.every_epochs * steps_per_epoch, config.factor, staircase=True
    )


class StagedSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Schedules of several stages in sequence; each counts its steps from 0."""

    def __init__(self, rates: Sequence[Rate], starts: Sequence[int]) -> None:
        """Join the schedules of the stages.

        Args:
            rates: learning rate of each stage.
            starts: first step of each stage, ascending.
        """
        self.rates = rates
        self.starts = starts

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of a step of the run.

        Args:
            step: int scalar.

        Returns:
            float32 scalar.
        """
        step = tf.cast(step, tf.float32)
        value = tf.zeros([])
        for rate, start in zip(self.rates, self.starts, strict=True):
            stage_step = tf.maximum(step - start, 0.0)
            stage_rate = rate(stage_step) if callable(rate) else rate
            value = tf.where(step >= start, tf.cast(stage_rate, tf.float32), value)
        return value


def learning_rate(base: float, stages: Sequence[schema.Stage], steps_per_epoch: int) -> Rate:
    """Build the learning rate of a run.

    Args:
        base: the highest learning rate.
        stages: stages of the recipe.
        steps_per_epoch: batches in an epoch.

    Returns:
        A number, or a function of the step.
    """
    rates = [
        build_schedule(stage.schedule, base, stage.epochs, steps_per_epoch) for stage in stages
    ]
    if len(rates) == 1:
        return rates[0]
    lengths = (stage.epochs * steps_per_epoch for stage in stages[:-1])
    return StagedSchedule(rates, list(accumulate(lengths, initial=0)))
