"""Lower the learning rate if the evaluation on the dev split stops improving."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

from delf_ext.recipes import schema


class PlateauState:
    """What a plateau has seen so far. The variables belong to the checkpoints of a run.

    Attributes:
        config: the record of the recipe.
        factor: float32, the learning rate is multiplied by it.
        best: float64, the best value so far; NaN before the first.
        num_waited: int64, evaluations without a better value since the last change.
    """

    def __init__(self, config: schema.Plateau) -> None:
        """Start without an evaluation."""
        self.config = config
        self.factor = tf.Variable(1.0, trainable=False, name="plateau_factor")
        self.best = tf.Variable(math.nan, dtype=tf.float64, trainable=False, name="plateau_best")
        self.num_waited = tf.Variable(0, dtype=tf.int64, trainable=False, name="plateau_waited")

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """The variables by name."""
        return {"factor": self.factor, "best": self.best, "num_waited": self.num_waited}

    def evaluated(self, value: float, lower_is_better: bool) -> bool:
        """Count an evaluation, and lower the learning rate if it is time.

        Args:
            value: of the metric that chooses the best weights.
            lower_is_better: whether a lower value is better.

        Returns:
            Whether the learning rate changed.
        """
        best = float(self.best)
        if math.isnan(best) or (value < best if lower_is_better else value > best):
            self.best.assign(value)
            self.num_waited.assign(0)
            return False
        self.num_waited.assign_add(1)
        if int(self.num_waited) < self.config.patience:
            return False
        self.factor.assign(self.factor * self.config.factor)
        self.num_waited.assign(0)
        return True


class PlateauRate(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate that the evaluations lower; the step does not change it."""

    def __init__(self, base: float, state: PlateauState) -> None:
        """Multiply `base` by the factor of `state`."""
        self.base = base
        self.state = state

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the learning rate, float32 scalar."""
        return self.base * self.state.factor.read_value()


def plateaus_of(stages: Sequence[schema.Stage]) -> list[PlateauState | None]:
    """Return the state of the plateau of each stage; stages that share a schedule share it.

    Args:
        stages: stages of a recipe.

    Returns:
        A state for each stage; None for another schedule.
    """
    states: list[PlateauState | None] = []
    for stage in stages:
        if stage.schedule is None:
            states.append(states[-1])
        elif isinstance(stage.schedule, schema.Plateau):
            states.append(PlateauState(stage.schedule))
        else:
            states.append(None)
    return states
