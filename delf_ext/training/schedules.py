"""Build the learning rate over the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part
from delf_ext.training.plateau import PlateauRate, PlateauState, plateaus_of

Rate: TypeAlias = float | tf.keras.optimizers.schedules.LearningRateSchedule


@singledispatch
def build_schedule(config: Part, base: float, epochs: int, steps_per_epoch: int) -> Rate:
    """Build the learning rate of one stage, whose steps count from 0.

    Args:
        config: a schedule record; `Plateau` has no steps, see `stage_pieces`.
        base: the highest learning rate.
        epochs: number of epochs of the stage.
        steps_per_epoch: updates in an epoch.

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
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    cosine_decay = tf.keras.optimizers.schedules.CosineDecay
    if not warmup_steps:
        return cosine_decay(base, epochs * steps_per_epoch)
    decay_steps = max(1, epochs * steps_per_epoch - warmup_steps)
    return cosine_decay(0.0, decay_steps, warmup_target=base, warmup_steps=warmup_steps)


@build_schedule.register
def _(config: schema.StepDecay, base: float, epochs: int, steps_per_epoch: int) -> Rate:
    return tf.keras.optimizers.schedules.ExponentialDecay(
        base, config.every_epochs * steps_per_epoch, config.factor, staircase=True
    )


class Piece(NamedTuple):
    """Learning rate of one stage.

    Attributes:
        rate: learning rate of the stages that share a schedule, whose steps count from the first.
        offset: step of `rate` at which the stage starts.
        num_steps: length of the stage in steps.
    """

    rate: Rate
    offset: int
    num_steps: int


class StagedSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Learning rates of several stages in sequence."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """Join the stages.

        Args:
            pieces: learning rate of each stage.
        """
        self.pieces = tuple(pieces)
        lengths = (piece.num_steps for piece in pieces[:-1])
        self.starts = list(accumulate(lengths, initial=0))

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate of a step of these stages.

        Args:
            step: int scalar.

        Returns:
            float32 scalar.
        """
        step = tf.cast(step, tf.float32)
        value = tf.zeros([])
        for (rate, offset, _), start in zip(self.pieces, self.starts, strict=True):
            stage_step = tf.maximum(step - start, 0.0) + offset
            stage_rate = rate(stage_step) if callable(rate) else rate
            value = tf.where(step >= start, tf.cast(stage_rate, tf.float32), value)
        return value


def stage_pieces(
    base: float,
    stages: Sequence[schema.Stage],
    steps_per_epoch: int,
    plateaus: Sequence[PlateauState | None],
) -> list[Piece]:
    """Build the learning rate of each stage; a stage without a schedule shares the one before.

    Args:
        base: the highest learning rate.
        stages: stages of the recipe.
        steps_per_epoch: updates in an epoch.
        plateaus: state of the plateau of each stage.

    Returns:
        A piece for each stage.
    """
    spans: list[list[schema.Stage]] = []
    for stage in stages:
        if stage.schedule is None:
            spans[-1].append(stage)
        else:
            spans.append([stage])
    pieces: list[Piece] = []
    for span in spans:
        plateau = plateaus[len(pieces)]
        if plateau is not None:
            rate: Rate = PlateauRate(base, plateau)
        else:
            assert span[0].schedule is not None
            num_epochs = sum(stage.epochs for stage in span)
            rate = build_schedule(span[0].schedule, base, num_epochs, steps_per_epoch)
        offset = 0
        for stage in span:
            pieces.append(Piece(rate, offset, stage.epochs * steps_per_epoch))
            offset += pieces[-1].num_steps
    return pieces


def learning_rate(
    base: float,
    stages: Sequence[schema.Stage],
    steps_per_epoch: int,
    own: Sequence[int] | None = None,
    plateaus: Sequence[PlateauState | None] | None = None,
) -> Rate:
    """Build the learning rate of parameters that some stages train.

    Args:
        base: the highest learning rate.
        stages: all stages of the recipe.
        steps_per_epoch: updates in an epoch.
        own: numbers of the stages that train the parameters, from 0; None means all.
        plateaus: state of the plateau of each stage; None makes new ones.

    Returns:
        A number, or a function of the step; it counts the steps of these stages only.
    """
    states = plateaus_of(stages) if plateaus is None else plateaus
    pieces = stage_pieces(base, stages, steps_per_epoch, states)
    if own is not None:
        pieces = [pieces[number] for number in own]
    follow = all(
        before.rate is after.rate and before.offset + before.num_steps == after.offset
        for before, after in pairwise(pieces)
    )
    if follow and not pieces[0].offset:
        return pieces[0].rate
    return StagedSchedule(pieces)
