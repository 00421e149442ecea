"""Softmax cross-entropy, with and without the original's squared error, against a float64 twin."""

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


def twin(logits: np.ndarray, labels: np.ndarray, config: SoftmaxCrossEntropy) -> float:
    """Image after image; only the cross-entropy sees smoothed targets."""
    total, share = 0.0, config.label_smoothing
    for row, label in zip(logits, labels, strict=True):
        probability = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        for c, p in enumerate(probability):
            is_label = float(c == label)
            total -= (is_label * (1 - share) + share / len(row)) * math.log(p)
            total += config.squared_error * (p - is_label) ** 2
    return total / len(labels)


@pytest.mark.parametrize("config", SETTINGS)
@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_its_twin(config: SoftmaxCrossEntropy, seed: int, labels: np.ndarray):
    logits = np.random.default_rng(seed).normal(0, 3, (8, 3))
    found = softmax_cross_entropy(tf.constant(logits, tf.float32), tf.constant(labels), config)
    assert float(found) == pytest.approx(twin(logits, labels, config), rel=1e-5)


def test_golden_two_even_classes():
    """By hand: -ln 0.5, and 0.5^2 + 0.5^2 of the squared error (DESIGN section 7)."""
    logits, labels = tf.zeros([3, 2]), tf.constant([0, 1, 1])
    plain = softmax_cross_entropy(logits, labels, SoftmaxCrossEntropy())
    squared = softmax_cross_entropy(logits, labels, SoftmaxCrossEntropy(squared_error=True))
    assert float(plain) == pytest.approx(math.log(2), abs=1e-6)
    assert float(squared) == pytest.approx(math.log(2) + 0.5, abs=1e-6)


def test_golden_label_smoothing():
    """By hand: probabilities 3/4 and 1/4; targets 0.9 and 0.1, smoothed by 0.2.

    Source: Szegedy et al. 2016, section 7.
    """
    logits = tf.constant([[math.log(3), 0.0]])
    config = SoftmaxCrossEntropy(label_smoothing=0.2)
    found = softmax_cross_entropy(logits, tf.constant([0]), config)
    assert float(found) == pytest.approx(-0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4), abs=1e-6)


def test_smoothing_pulls_confident_logits_back():
    logits, labels = tf.Variable([[20.0, 0.0, 0.0]]), tf.constant([0])
    slopes = []
    for share in (0.0, 0.1):
        with tf.GradientTape() as tape:
            loss = softmax_cross_entropy(logits, labels, SoftmaxCrossEntropy(label_smoothing=share))
        slopes.append(float(tape.gradient(loss, logits)[0, 0]))
    assert abs(slopes[0]) < 1e-6
    assert slopes[1] == pytest.approx(0.1 - 0.1 / 3, rel=1e-4)  # probability 1 minus the target
