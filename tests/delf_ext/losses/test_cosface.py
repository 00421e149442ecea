"""Check CosFace against its formula in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.cosface import cosface
from delf_ext.recipes.schema import CosFace


def slow_losses(cosines: np.ndarray, labels: np.ndarray, config: CosFace) -> np.ndarray:
    """Compute Wang et al., arXiv:1801.09414, eq. 4, in float64."""
    losses = []
    for row, label in zip(cosines, labels, strict=True):
        own = math.exp(config.scale * (row[label] - config.margin))
        others = sum(math.exp(config.scale * value) for c, value in enumerate(row) if c != label)
        losses.append(-math.log(own / (own + others)))
    return np.array(losses)


@pytest.mark.parametrize("config", [CosFace(), CosFace(5.0, 1.9), CosFace(20.0, 0.0)], ids=str)
def test_losses_equal_their_formula(config: CosFace, labels: np.ndarray):
    cosines = np.random.default_rng(0).uniform(-1, 1, (8, 3))
    found = cosface(tf.constant(cosines, tf.float32), tf.constant(labels), config)
    np.testing.assert_allclose(found, slow_losses(cosines, labels, config), rtol=1e-4, atol=1e-5)


def test_label_smoothing_equals_golden_value():
    """By hand: logits 1 and 1 after the margin, so each target has the loss ln 2."""
    config = CosFace(scale=2.0, margin=0.25, label_smoothing=0.3)
    found = cosface(tf.constant([[0.75, 0.5]]), tf.constant([0]), config)
    assert float(found[0]) == pytest.approx(math.log(2), abs=1e-6)
