"""From the optimizer record of a recipe to Keras optimizers: one for each learning-rate factor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import NamedTuple

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.embedding_model import Parameter, in_group
from delf_ext.recipes import schema
from delf_ext.recipes.part import Part, not_built
from delf_ext.training.schedules import Rate, learning_rate


@singledispatch
def build_optimizer(config: Part, rate: Rate) -> tf.keras.optimizers.Optimizer:
    """Return the optimizer of a record. Raises: UsageError for one that is not built yet."""
    raise not_built(config, build_optimizer)


@build_optimizer.register
def _(config: schema.Adam, rate: Rate) -> tf.keras.optimizers.Optimizer:
    if config.weight_decay:
        raise UsageError(
            "Adam.weight_decay is not built yet. Built: AdamW and Sgd with weight_decay, Trunk.weight_decay."
        )
    return tf.keras.optimizers.Adam(rate)


@build_optimizer.register
def _(config: schema.AdamW, rate: Rate) -> tf.keras.optimizers.Optimizer:
    return tf.keras.optimizers.AdamW(rate, weight_decay=config.weight_decay)


@build_optimizer.register
def _(config: schema.Sgd, rate: Rate) -> tf.keras.optimizers.Optimizer:
    decay = config.weight_decay or None
    return tf.keras.optimizers.SGD(rate, config.momentum, config.nesterov, weight_decay=decay)


class Group(NamedTuple):
    """The parameters that share a learning rate, and their optimizer."""

    optimizer: tf.keras.optimizers.Optimizer
    parameters: list[Parameter]


def build_groups(
    config: schema.Optimizer,
    stages: Sequence[schema.Stage],
    steps_per_epoch: int,
    parameters: Sequence[Parameter],
    frozen: Sequence[str] = (),
) -> list[Group]:
    """Return the optimizers of a run, built for the parameters that are trained.

    Args:
        config: the optimizer of the recipe, with its learning-rate factors.
        stages: of the recipe; they decide the schedule.
        steps_per_epoch: batches in an epoch.
        parameters: of the whole model.
        frozen: groups that are not trained.

    Raises:
        UsageError: when the optimizer is not built yet.
    """
    # An optimizer counts its own steps, so parameters that sit out a stage have one that counts without it.
    by_rate: dict[tuple[float, tuple[schema.Stage, ...]], list[Parameter]] = {}
    for parameter in parameters:
        own_stages = tuple(stage for stage in stages if _trains(stage, parameter))
        frozen_here = any(in_group(parameter.group, name) for name in frozen)
        if parameter.variable.trainable and own_stages and not frozen_here:
            fitting = [one.factor for one in config.factors if in_group(parameter.group, one.group)]
            by_rate.setdefault((fitting[-1] if fitting else 1.0, own_stages), []).append(parameter)
    groups = []
    for (times, own_stages), own in sorted(by_rate.items(), key=lambda item: item[0][0]):
        optimizer = build_optimizer(
            config, learning_rate(config.lr * times, own_stages, steps_per_epoch)
        )
        optimizer.build([parameter.variable for parameter in own])
        groups.append(Group(optimizer, own))
    return groups


def _trains(stage: schema.Stage, parameter: Parameter) -> bool:
    return not stage.trains or any(in_group(parameter.group, name) for name in stage.trains)


def require_groups(recipe: schema.Recipe, parameters: Sequence[Parameter]) -> None:
    """Raise UsageError with the known groups when a recipe names a parameter group that its model does not have."""
    named = [(factor.group, "a learning-rate factor") for factor in recipe.optimizer.factors]
    named += [(group, "model.trunk.frozen") for group in recipe.model.trunk.frozen]
    named += [(group, "a stage") for stage in recipe.stages for group in stage.trains]
    for group, what in named:
        if not any(in_group(parameter.group, group) for parameter in parameters):
            known = dict.fromkeys(parameter.group for parameter in parameters)
            raise UsageError(
                f"{what} names parameter group {group!r}. Known: {', '.join(known)}, and their parts."
            )
