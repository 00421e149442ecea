"""Check learning rates over a run against values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.recipes.schema import Constant, CosineDecay, Schedule, Stage, StepDecay
from delf_ext.training.schedules import StagedSchedule, build_schedule, learning_rate

STEPS_PER_EPOCH = 10


def values(stages: list[Stage], steps: list[int], base: float = 0.1) -> list[float]:
    rate = learning_rate(base, stages, STEPS_PER_EPOCH)
    return [float(rate(tf.constant(step, tf.int64))) if callable(rate) else rate for step in steps]


@pytest.mark.parametrize(
    ("schedule", "epochs", "expected"),
    [
        (Constant(), 1, {0: 0.1, 5: 0.1, 10: 0.1}),
        # (1 + cos(pi t / T)) / 2.
        (CosineDecay(), 1, {0: 0.1, 5: 0.05, 10: 0.0}),
        (CosineDecay(), 3, {10: 0.075, 20: 0.025, 30: 0.0, 40: 0.0}),
        # Two epochs rise linearly, then a cosine falls over the other four.
        (CosineDecay(2), 6, {0: 0.0, 5: 0.025, 10: 0.05, 20: 0.1, 40: 0.05, 60: 0.0}),
        # A quarter of an epoch is rounded to two steps; the cosine then takes the other 18.
        (CosineDecay(0.25), 2, {0: 0.0, 1: 0.05, 2: 0.1, 11: 0.05, 20: 0.0}),
        (CosineDecay(1), 2, {9: 0.09, 10: 0.1, 15: 0.05}),
        (StepDecay(2, 0.1), 5, {0: 0.1, 19: 0.1, 20: 0.01, 39: 0.01, 40: 0.001}),
        (StepDecay(1, 0.5), 2, {9: 0.1, 10: 0.05}),
    ],
)
def test_rates_of_one_stage_equal_golden_values(
    schedule: Schedule, epochs: int, expected: dict[int, float]
):
    """Source of the cosine: arXiv:1608.03983, eq. 5, with a lowest rate of 0."""
    found = values([Stage(epochs, schedule)], list(expected))
    np.testing.assert_allclose(found, list(expected.values()), atol=1e-8)


def test_cosine_with_warmup_equals_reference_formula_at_every_step():
    warm = 20
    total = 60
    base = 0.3

    def reference_formula(step: int) -> float:
        if step < warm:
            return base * step / warm
        return base * (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2

    steps = list(range(total + 1))
    found = values([Stage(6, CosineDecay(2))], steps, base)
    np.testing.assert_allclose(found, [reference_formula(step) for step in steps], atol=1e-7)


def test_each_stage_counts_its_steps_from_0():
    """Each stage of a run has the rates that it has alone."""
    stages = [Stage(2, Constant()), Stage(3, CosineDecay(1)), Stage(2, StepDecay(1, 0.1))]
    found = values(stages, list(range(70)))
    expected = values(stages[:1], list(range(20)))
    expected += values(stages[1:2], list(range(30)))
    expected += values(stages[2:], list(range(20)))
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_rates_of_two_stages_equal_golden_values():
    """By hand: the cosine starts at step 20; at 35, half of its 30 steps are done."""
    stages = [Stage(2, Constant()), Stage(3, CosineDecay())]
    expected = [0.1, 0.1, 0.1, 0.05, 0.0]
    np.testing.assert_allclose(values(stages, [0, 19, 20, 35, 50]), expected, atol=1e-8)


def test_stages_without_a_schedule_share_the_one_before():
    """One cosine over three stages of growing image size, then a stage of its own."""
    stages = [
        Stage(1, CosineDecay(1), size_px=160),
        Stage(2, None, size_px=224),
        Stage(1, None, size_px=288),
    ]
    steps = list(range(60))
    whole = values([Stage(4, CosineDecay(1))], steps)
    np.testing.assert_array_equal(values(stages, steps), whole)
    last = Stage(2, StepDecay(1, 0.5))
    np.testing.assert_allclose(
        values([*stages, last], steps), whole[:40] + [0.1] * 10 + [0.05] * 10, atol=1e-8
    )


def test_parameters_follow_a_shared_schedule_only_in_their_stages():
    """A cosine over stages 1 and 2; its second half for parameters that stage 2 alone trains."""
    stages = [Stage(2, CosineDecay()), Stage(2, None), Stage(1, None)]
    whole = learning_rate(0.1, stages, STEPS_PER_EPOCH)
    for own, run_steps in (([1], range(20, 40)), ([0, 2], [*range(20), *range(40, 50)])):
        rate = learning_rate(0.1, stages, STEPS_PER_EPOCH, own)
        expected = [float(whole(step)) for step in run_steps]
        found = [float(rate(step)) for step in range(len(expected))]
        np.testing.assert_allclose(found, expected, atol=1e-8)


def test_last_stage_continues_after_its_end():
    stages = [Stage(1, CosineDecay()), Stage(1, Constant())]
    np.testing.assert_allclose(values(stages, [5, 10, 20, 999]), [0.05, 0.1, 0.1, 0.1], atol=1e-8)


def test_optimizer_accepts_a_staged_schedule():
    rate = learning_rate(1.0, [Stage(1, Constant()), Stage(1, StepDecay(1, 0.5))], 1)
    assert isinstance(rate, StagedSchedule)
    assert rate.starts == [0, 1]
    optimizer = tf.keras.optimizers.SGD(rate)
    weight = tf.Variable(0.0)
    optimizer.build([weight])
    step = tf.function(lambda: optimizer.apply_gradients([(tf.constant(-1.0), weight)]))
    weights = []
    for _ in range(3):
        step()
        weights.append(float(weight))
    # The rates are 1, 1 and 0.5.
    np.testing.assert_allclose(weights, [1.0, 2.0, 2.5])


def test_error_of_a_schedule_not_built_lists_those_built():
    message = r"^Stage is not built yet\. Built: Constant, CosineDecay, StepDecay\.$"
    with pytest.raises(UsageError, match=message):
        build_schedule(Stage(1), 0.1, 1, STEPS_PER_EPOCH)
