"""The learning rate over the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import TypeAlias

import tensorflow as tf

from delf_ext.recipes import schema
from delf_ext.recipes.part import Part, not_built

Rate: TypeAlias = float | tf.keras.optimizers.schedules.LearningRateSchedule


@singledispatch
def build_schedule(config: Part, base: float, epochs: int, steps_per_epoch: int) -> Rate:
    """Return the learning rate of one stage, whose steps count from 0.

    Args:
        config: a schedule record.
        base: the learning rate at its highest.
        epochs: of the stage.
        steps_per_epoch: batches in an epoch.

    Raises:
        UsageError: for a schedule that is not built yet.
    """
    raise not_built(config, build_schedule)


@build_schedule.register
def _(config: schema.Constant, base: float, epochs: int, steps_per_epoch: int) -> Rate:
    return base


@build_schedule.register
def _(config: schema.CosineDecay, base: float, epochs: int, steps_per_epoch: int) -> Rate:
    """Down to zero at the last step (Loshchilov and Hutter, arXiv:1608.03983)."""
    warmup = config.warmup_epochs * steps_per_epoch
    decay = tf.keras.optimizers.schedules.CosineDecay
    if not warmup:
        return decay(base, epochs * steps_per_epoch)
    rest = max(1, epochs - config.warmup_epochs) * steps_per_epoch
    return decay(0.0, rest, warmup_target=base, warmup_steps=warmup)


@build_schedule.register
def _(config: schema.StepDecay, base: float, epochs: int, steps_per_epoch: int) -> Rate:
    every = config.every_epochs * steps_per_epoch
    return tf.keras.optimizers.schedules.ExponentialDecay(
        base, every, config.factor, staircase=True
    )


class InStages(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Several schedules one after the other; each counts its steps from 0."""

    def __init__(self, rates: Sequence[Rate], starts: Sequence[int]) -> None:
        self.rates, self.starts = list(rates), list(starts)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        value = tf.zeros([])
        for rate, start in zip(self.rates, self.starts, strict=True):
            inside = tf.maximum(step - start, 0.0)
            current = rate(inside) if callable(rate) else rate
            value = tf.where(step >= start, tf.cast(current, tf.float32), value)
        return value

    def get_config(self) -> dict:
        return {"rates": self.rates, "starts": self.starts}


def learning_rate(base: float, stages: Sequence[schema.Stage], steps_per_epoch: int) -> Rate:
    """Return the learning rate of a run with these stages."""
    rates = [
        build_schedule(stage.schedule, base, stage.epochs, steps_per_epoch) for stage in stages
    ]
    if len(rates) == 1:
        return rates[0]
    starts = [
        sum(stage.epochs for stage in stages[:row]) * steps_per_epoch for row in range(len(stages))
    ]
    return InStages(rates, starts)
