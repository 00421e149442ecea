"""Check the hardest-negatives loss against a float64 version and values by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.hardest_negatives import hardest_negatives
from delf_ext.recipes.schema import HardestNegatives


def slow_loss(embedding: np.ndarray, labels: np.ndarray, config: HardestNegatives) -> float:
    losses: list[float] = []
    for vector, label in zip(embedding, labels, strict=True):
        negatives = embedding[labels != label] @ vector
        hardest = sorted(negatives, reverse=True)[: config.top_k]
        logits = [(cosine - config.offset) * config.scale for cosine in hardest]
        losses += [math.log1p(math.exp(logit)) for logit in logits]
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize("top_k", [1, 3, 5, 50])
@pytest.mark.parametrize(("scale", "offset"), [(32.0, 0.5), (7.0, -0.2)])
def test_loss_equals_float64_version(
    embedding: np.ndarray,
    labels: np.ndarray,
    top_k: int,
    scale: float,
    offset: float,
):
    config = HardestNegatives(top_k, scale, offset)
    found = hardest_negatives(tf.constant(embedding, tf.float32), tf.constant(labels), config)
    assert float(found) == pytest.approx(slow_loss(embedding, labels, config), rel=1e-4)


def test_loss_equals_golden_values(at_degrees: Callable):
    """By hand: image 0 has negatives at cosine 0.5 and 0; both have only image 0 as a negative."""
    embedding = at_degrees(0, 60, 90)
    labels = tf.constant([0, 1, 1])
    even = math.log(2)
    far = math.log1p(math.exp(-16))
    one = hardest_negatives(embedding, labels, HardestNegatives(1))
    two = hardest_negatives(embedding, labels, HardestNegatives(2))
    assert float(one) == pytest.approx((even + even + far) / 3, rel=1e-5)
    assert float(two) == pytest.approx((even + far + even + far) / 4, rel=1e-5)


def test_gradient_moves_only_the_hardest_negatives(at_degrees: Callable):
    """With top_k 1, only the nearest image of another class has a gradient."""
    embedding = tf.Variable(at_degrees(0, 60, 120, 170))
    with tf.GradientTape() as tape:
        loss = hardest_negatives(embedding, tf.constant([0, 1, 2, 2]), HardestNegatives(1))
    sizes = np.abs(tape.gradient(loss, embedding).numpy()).max(1)
    assert sizes[0] > 1e-3
    assert sizes[1] > 1e-3
    assert sizes[3] < 1e-6


def test_batch_of_one_class_has_loss_zero(at_degrees: Callable):
    embedding = tf.Variable(at_degrees(0, 10, 20))
    with tf.GradientTape() as tape:
        loss = hardest_negatives(embedding, tf.constant([3, 3, 3]), HardestNegatives(5))
    assert float(loss) == 0.0
    assert not np.any(tape.gradient(loss, embedding).numpy())
