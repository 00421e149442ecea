"""Build the Keras optimizers of a recipe: one for each learning-rate factor."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import NamedTuple

import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.embedding_model import Parameter, in_group
from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part
from delf_ext.training.plateau import PlateauState, plateaus_of
from delf_ext.training.schedules import Rate, learning_rate

KERAS = tf.keras.optimizers


@singledispatch
def build_optimizer(config: Part, rate: Rate) -> tf.keras.optimizers.Optimizer:
    """Build an optimizer of a recipe.

    Args:
        config: an optimizer record.
        rate: the learning rate, a number or a function of the step.

    Returns:
        The Keras optimizer.

    Raises:
        NotBuilt: the optimizer is not built yet.
    """
    raise NotBuilt(config, build_optimizer)


@build_optimizer.register
def _(config: schema.Adam, rate: Rate) -> tf.keras.optimizers.Optimizer:
    return AdamL2(rate, config.weight_decay) if config.weight_decay else KERAS.Adam(rate)


@build_optimizer.register
def _(config: schema.AdamW, rate: Rate) -> tf.keras.optimizers.Optimizer:
    # TensorFlow Addons has an AdamW too, but is no longer maintained.
    return KERAS.AdamW(rate, weight_decay=config.weight_decay)


@build_optimizer.register
def _(config: schema.Sgd, rate: Rate) -> tf.keras.optimizers.Optimizer:
    return KERAS.SGD(
        rate, config.momentum, config.nesterov, weight_decay=config.weight_decay or None
    )


class AdamL2(tf.keras.optimizers.Adam):
    """Adam with an L2 penalty, whose gradient becomes a part of the moments."""

    def __init__(self, rate: Rate, l2: float) -> None:
        """Prepare the optimizer.

        Args:
            rate: the learning rate, a number or a function of the step.
            l2: factor of the penalty l2 / 2 * weight ** 2.
        """
        super().__init__(rate)
        self.l2 = l2

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Update a variable.

        Args:
            gradient: of the losses; scalar or [...], as the variable.
            variable: a trained variable.
        """
        if self._use_weight_decay(variable):
            gradient += self.l2 * variable
        super().update_step(gradient, variable)


class Group(NamedTuple):
    """Parameters that share a learning rate and stages.

    Attributes:
        optimizer: trains the parameters.
        parameters: the parameters.
    """

    optimizer: tf.keras.optimizers.Optimizer
    parameters: list[Parameter]


def build_groups(
    config: schema.Optimizer,
    stages: Sequence[schema.Stage],
    steps_per_epoch: int,
    parameters: Sequence[Parameter],
    frozen: Sequence[str] = (),
    plateaus: Sequence[PlateauState | None] | None = None,
) -> list[Group]:
    """Build the optimizers of a run for the parameters that are trained.

    Args:
        config: the optimizer of the recipe, with its learning-rate factors.
        stages: stages of the recipe, with their schedules.
        steps_per_epoch: updates in an epoch.
        parameters: parameters of the whole model.
        frozen: parameter groups that are not trained.
        plateaus: state of the plateau of each stage; None makes new ones.

    Returns:
        Groups by ascending factor.

    Raises:
        UsageError: if the optimizer is not built yet.
    """
    # An optimizer counts its own steps. So parameters that are not trained in all stages get one
    # that counts only the steps of their stages.
    by_rate: dict[tuple[float, tuple[int, ...]], list[Parameter]] = {}
    for parameter in parameters:
        own_stages = tuple(
            number for number, stage in enumerate(stages) if is_trained(parameter, stage.trains)
        )
        if parameter.variable.trainable and own_stages and not is_in_any(parameter, frozen):
            key = (_factor_of(config, parameter), own_stages)
            by_rate.setdefault(key, []).append(parameter)
    plateaus = plateaus_of(stages) if plateaus is None else plateaus
    groups = []
    for factor, own_stages in sorted(by_rate, key=lambda key: key[0]):
        own_parameters = by_rate[factor, own_stages]
        rate = learning_rate(config.lr * factor, stages, steps_per_epoch, own_stages, plateaus)
        optimizer = build_optimizer(config, rate)
        if getattr(config, "decays", "all") == "kernels":
            variables = [parameter.variable for parameter in own_parameters]
            optimizer.exclude_from_weight_decay([one for one in variables if one.shape.rank < 2])
        optimizer.build([parameter.variable for parameter in own_parameters])
        groups.append(Group(optimizer, own_parameters))
    return groups


def is_in_any(parameter: Parameter, groups: Sequence[str]) -> bool:
    """Return whether a parameter is in one of these groups of a recipe."""
    return any(in_group(parameter.group, group) for group in groups)


def is_trained(parameter: Parameter, trains: Sequence[str]) -> bool:
    """Return whether a stage that trains these parameter groups, () for all, trains a parameter."""
    return not trains or is_in_any(parameter, trains)


def _factor_of(config: schema.Optimizer, parameter: Parameter) -> float:
    """Return the last learning-rate factor whose group holds the parameter; 1.0 without one."""
    matching = [part.factor for part in config.factors if in_group(parameter.group, part.group)]
    return matching[-1] if matching else 1.0


def require_groups(recipe: schema.Recipe, parameters: Sequence[Parameter]) -> None:
    """Check that the model has all parameter groups that its recipe names, and trains some.

    Args:
        recipe: learning-rate factors, frozen groups and stages are read.
        parameters: parameters of the whole model.

    Raises:
        UsageError: if it has not, and the message names the known groups; or a stage trains none.
    """
    frozen = recipe.model.trunk.frozen
    named = [(factor.group, "a learning-rate factor") for factor in recipe.optimizer.factors]
    named += [(group, "model.trunk.frozen") for group in frozen]
    named += [(group, "a stage") for stage in recipe.stages for group in stage.trains]
    for group, place in named:
        if not any(in_group(parameter.group, group) for parameter in parameters):
            known = ", ".join(dict.fromkeys(parameter.group for parameter in parameters))
            raise UsageError(
                f"{place} names parameter group {group!r}. Known: {known}, and their parts."
            )
    free = [
        parameter
        for parameter in parameters
        if parameter.variable.trainable and not is_in_any(parameter, frozen)
    ]
    for number, stage in enumerate(recipe.stages, start=1):
        if not any(is_trained(parameter, stage.trains) for parameter in free):
            raise UsageError(
                f"stage {number} would train nothing: all that it trains is in "
                f"model.trunk.frozen ({', '.join(frozen)}), or has no trained weights."
            )
