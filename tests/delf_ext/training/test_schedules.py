"""Learning rates over a run, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.recipes.schema import Constant, CosineDecay, Plateau, Schedule, Stage, StepDecay
from delf_ext.training.schedules import InStages, learning_rate

STEPS = 10  # in an epoch


def values(stages: list[Stage], steps: list[int], base: float = 0.1) -> list[float]:
    rate = learning_rate(base, stages, STEPS)
    return [float(rate(tf.constant(step, tf.int64))) if callable(rate) else rate for step in steps]


@pytest.mark.parametrize(
    ("schedule", "epochs", "expected"),
    [
        (Constant(), 1, {0: 0.1, 5: 0.1, 10: 0.1}),
        (CosineDecay(), 1, {0: 0.1, 5: 0.05, 10: 0.0}),  # (1 + cos(pi t / T)) / 2
        (CosineDecay(), 3, {10: 0.075, 20: 0.025, 30: 0.0, 40: 0.0}),
        # Two epochs up in a line, then a cosine over the four that are left.
        (CosineDecay(2), 6, {0: 0.0, 5: 0.025, 10: 0.05, 20: 0.1, 40: 0.05, 60: 0.0}),
        (CosineDecay(1), 2, {9: 0.09, 10: 0.1, 15: 0.05}),
        (StepDecay(2, 0.1), 5, {0: 0.1, 19: 0.1, 20: 0.01, 39: 0.01, 40: 0.001}),
        (StepDecay(1, 0.5), 2, {9: 0.1, 10: 0.05}),
    ],
)
def test_golden_rates_of_one_stage(schedule: Schedule, epochs: int, expected: dict[int, float]):
    """By hand. Cosine: arXiv:1608.03983, eq. 5, with a lowest rate of 0."""
    found = values([Stage(epochs, schedule)], list(expected))
    np.testing.assert_allclose(found, list(expected.values()), atol=1e-8)


def test_a_cosine_with_warm_up_is_its_twin_at_every_step():
    warm, total, base = 20, 60, 0.3

    def twin(step: int) -> float:
        if step < warm:
            return base * step / warm
        return base * (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2

    steps = list(range(total + 1))
    found = values([Stage(6, CosineDecay(2))], steps, base)
    np.testing.assert_allclose(found, [twin(step) for step in steps], atol=1e-7)


def test_each_stage_counts_its_steps_from_0():
    """Two epochs constant, then three of a cosine: what each gives by itself, at its own step."""
    stages = [Stage(2, Constant()), Stage(3, CosineDecay(1)), Stage(2, StepDecay(1, 0.1))]
    found = values(stages, list(range(70)))
    expected = values(stages[:1], list(range(20)))
    expected += values(stages[1:2], list(range(30)))
    expected += values(stages[2:], list(range(20)))
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_golden_rates_of_two_stages():
    """By hand: 0.1 up to step 19, at 20 the cosine begins, at 35 half of its 30 steps are done."""
    stages = [Stage(2, Constant()), Stage(3, CosineDecay())]
    expected = [0.1, 0.1, 0.1, 0.05, 0.0]
    np.testing.assert_allclose(values(stages, [0, 19, 20, 35, 50]), expected, atol=1e-8)


def test_the_last_stage_holds_after_its_end():
    stages = [Stage(1, CosineDecay()), Stage(1, Constant())]
    np.testing.assert_allclose(values(stages, [5, 10, 20, 999]), [0.05, 0.1, 0.1, 0.1], atol=1e-8)


def test_an_optimizer_takes_several_stages():
    rate = learning_rate(1.0, [Stage(1, Constant()), Stage(1, StepDecay(1, 0.5))], 1)
    assert isinstance(rate, InStages)
    assert rate.get_config() == {"rates": rate.rates, "starts": [0, 1]}
    optimizer, weight = tf.keras.optimizers.SGD(rate), tf.Variable(0.0)
    optimizer.build([weight])
    step = tf.function(lambda: optimizer.apply_gradients([(tf.constant(-1.0), weight)]))
    found = []
    for _ in range(3):
        step()
        found.append(float(weight))
    np.testing.assert_allclose(found, [1.0, 2.0, 2.5])  # steps of 1, 1 and 0.5


def test_a_plateau_is_not_built_yet():
    message = r"^Plateau is not built yet\. Built: Constant, CosineDecay, StepDecay\.$"
    for stages in ([Stage(1, Plateau())], [Stage(1), Stage(1, Plateau())]):
        with pytest.raises(UsageError, match=message):
            learning_rate(0.1, stages, STEPS)
