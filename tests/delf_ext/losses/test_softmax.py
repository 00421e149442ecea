"""Check softmax cross-entropy and the squared error against a float64 version."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.softmax import softmax_cross_entropy
from delf_ext.recipes.schema import SoftmaxCrossEntropy

SETTINGS = [
    SoftmaxCrossEntropy(),
    SoftmaxCrossEntropy(squared_error=True),
    SoftmaxCrossEntropy(label_smoothing=0.1),
    SoftmaxCrossEntropy(0.3, squared_error=True),
]


def slow_loss(logits: np.ndarray, labels: np.ndarray, config: SoftmaxCrossEntropy) -> float:
    """Loop over images and classes; only the cross-entropy uses smoothed targets."""
    total = 0.0
    share = config.label_smoothing
    for row, label in zip(logits, labels, strict=True):
        probability = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        for c, p in enumerate(probability):
            is_label = float(c == label)
            total -= (is_label * (1 - share) + share / len(row)) * math.log(p)
            total += config.squared_error * (p - is_label) ** 2
    return total / len(labels)


@pytest.mark.parametrize("config", SETTINGS)
@pytest.mark.parametrize("seed", range(4))
def test_loss_equals_float64_version(config: SoftmaxCrossEntropy, seed: int, labels: np.ndarray):
    logits = np.random.default_rng(seed).normal(0, 3, (8, 3))
    found = softmax_cross_entropy(tf.constant(logits, tf.float32), tf.constant(labels), config)
    assert float(tf.reduce_mean(found)) == pytest.approx(
        slow_loss(logits, labels, config), rel=1e-5
    )


def test_loss_of_two_equal_logits_equals_golden_value():
    """By hand: -ln 0.5, and 0.5^2 + 0.5^2 for the squared error."""
    logits = tf.zeros([3, 2])
    labels = tf.constant([0, 1, 1])
    plain = softmax_cross_entropy(logits, labels, SoftmaxCrossEntropy())
    squared = softmax_cross_entropy(logits, labels, SoftmaxCrossEntropy(squared_error=True))
    assert plain.numpy() == pytest.approx(math.log(2), abs=1e-6)
    assert squared.numpy() == pytest.approx(math.log(2) + 0.5, abs=1e-6)


def test_label_smoothing_equals_golden_value():
    """By hand: probabilities 3/4 and 1/4; targets 0.9 and 0.1, smoothed by 0.2.

    Source: Szegedy et al. 2016, section 7.
    """
    logits = tf.constant([[math.log(3), 0.0]])
    config = SoftmaxCrossEntropy(label_smoothing=0.2)
    found = softmax_cross_entropy(logits, tf.constant([0]), config)
    assert float(found) == pytest.approx(-0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4), abs=1e-6)


def test_label_smoothing_lowers_confident_logits():
    logits = tf.Variable([[20.0, 0.0, 0.0]])
    labels = tf.constant([0])
    slopes = []
    for share in (0.0, 0.1):
        with tf.GradientTape() as tape:
            loss = softmax_cross_entropy(logits, labels, SoftmaxCrossEntropy(label_smoothing=share))
        slopes.append(float(tape.gradient(loss, logits)[0, 0]))
    assert abs(slopes[0]) < 1e-6
    # Probability 1 minus the smoothed target.
    assert slopes[1] == pytest.approx(0.1 - 0.1 / 3, rel=1e-4)
