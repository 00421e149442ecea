"""Check when a plateau lowers the learning rate."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.recipes.schema import Constant, Plateau, Stage
from delf_ext.training.plateau import PlateauState, plateaus_of
from delf_ext.training.schedules import learning_rate


def test_rate_falls_after_evaluations_without_a_better_value():
    """An equal value is not better; after a change, the count starts again."""
    state = PlateauState(Plateau(patience=2, factor=0.5))
    values = [0.3, 0.3, 0.4, 0.2, 0.4, 0.1, 0.1, 0.5, 0.5]
    factors = []
    for value in values:
        state.evaluated(value, lower_is_better=False)
        factors.append(float(state.factor))
    assert factors == [1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_lower_ranks_are_better():
    state = PlateauState(Plateau(patience=1, factor=0.5))
    assert [state.evaluated(value, True) for value in (9.0, 8.0, 8.5)] == [False, False, True]


def test_stages_that_share_a_plateau_share_its_state():
    stages = [Stage(1, Plateau()), Stage(1, None), Stage(1, Constant()), Stage(1, Plateau())]
    first, second, third, last = plateaus_of(stages)
    assert first is not None and first is second
    assert third is None and last is not None and last is not first
    rate = learning_rate(0.2, stages, 10, plateaus=[first, second, third, last])
    assert callable(rate)
    first.factor.assign(0.5)
    last.factor.assign(0.1)
    found = [float(rate(tf.constant(step))) for step in (0, 19, 20, 30)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.2, 0.02], rtol=1e-6)


@pytest.mark.parametrize("field", ["patience", "factor"])
def test_plateau_refuses_0(field: str):
    with pytest.raises(ValueError, match=rf"^Plateau\.{field} must be "):
        Plateau(**{field: 0})
