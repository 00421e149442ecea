"""Check normalized softmax against its formula in float64, and for cosines of 1 and -1."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.losses.norm_softmax import norm_softmax
from delf_ext.recipes.schema import NormSoftmax


def by_hand(cosines: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Compute Zhai and Wu, arXiv:1811.12649, eq. 2, in float64."""
    powers = np.exp(cosines.astype(np.float64) / temperature)
    return float(np.mean(-np.log(powers[np.arange(len(labels)), labels] / powers.sum(axis=1))))


def test_norm_softmax_equals_its_formula() -> None:
    cosines = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
    labels = np.array([0, 1, 2, 3, 0, 1])
    for temperature in (0.05, 0.5):
        found = norm_softmax(tf.constant(cosines), tf.constant(labels), NormSoftmax(temperature))
        assert float(tf.reduce_mean(found)) == pytest.approx(
            by_hand(cosines, labels, temperature), rel=1e-5
        )


def test_norm_softmax_has_the_golden_value_of_two_classes() -> None:
    """By hand: ln(1 + exp(-0.1 / 0.05)) for class 0; 2 more if class 1 is right."""
    cosines = tf.constant([[0.6, 0.5]])
    assert float(norm_softmax(cosines, tf.constant([0]), NormSoftmax())) == pytest.approx(
        0.1269280, abs=1e-6
    )
    assert float(norm_softmax(cosines, tf.constant([1]), NormSoftmax())) == pytest.approx(
        2.1269280, abs=1e-6
    )


def test_gradients_are_finite_at_cosines_of_one() -> None:
    cosines = tf.Variable([[1.0, -1.0], [-1.0, 1.0]])
    with tf.GradientTape() as tape:
        loss = norm_softmax(cosines, tf.constant([1, 1]), NormSoftmax())
    assert np.isfinite(tape.gradient(loss, cosines).numpy()).all()


def test_label_smoothing_equals_golden_value() -> None:
    """By hand: logits 2 ln 3 and 0 have probabilities 9/10 and 1/10; targets 0.9 and 0.1."""
    cosines = tf.constant([[math.log(3), 0.0]])
    found = norm_softmax(cosines, tf.constant([0]), NormSoftmax(0.5, label_smoothing=0.2))
    expected = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert float(found[0]) == pytest.approx(expected, abs=1e-6)


def test_temperature_of_zero_is_refused() -> None:
    message = r"NormSoftmax\.temperature must be at least 0\.001 and at most 1000\. Received 0\.0\."
    with pytest.raises(UsageError, match=message):
        NormSoftmax(0.0)
