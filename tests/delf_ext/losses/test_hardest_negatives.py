"""The loss on the most similar images of other classes, against a float64 twin and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.hardest_negatives import hardest_negatives
from delf_ext.recipes.schema import HardestNegatives


def twin(embedding: np.ndarray, labels: np.ndarray, config: HardestNegatives) -> float:
    losses: list[float] = []
    for own, label in zip(embedding, labels, strict=True):
        others = (own @ other for other, its in zip(embedding, labels, strict=True) if its != label)
        hardest = sorted(others, reverse=True)[: config.top_k]
        logits = [(cosine - config.offset) * config.scale for cosine in hardest]
        losses += [math.log1p(math.exp(logit)) for logit in logits]
    return float(np.mean(losses)) if losses else 0.0


@pytest.mark.parametrize("top_k", [1, 3, 5, 50])
@pytest.mark.parametrize(("scale", "offset"), [(32.0, 0.5), (7.0, -0.2)])
def test_it_agrees_with_its_twin(
    embedding: np.ndarray,
    labels: np.ndarray,
    top_k: int,
    scale: float,
    offset: float,
):
    config = HardestNegatives(top_k, scale, offset)
    found = hardest_negatives(tf.constant(embedding, tf.float32), tf.constant(labels), config)
    assert float(found) == pytest.approx(twin(embedding, labels, config), rel=1e-4)


def test_golden_hardest_negatives(at_degrees: Callable):
    """By hand: image 0 has negatives at cosine 0.5 and 0; each of these sees only image 0."""
    embedding, labels = at_degrees(0, 60, 90), tf.constant([0, 1, 1])
    even, far = math.log(2), math.log1p(math.exp(-16))
    one = hardest_negatives(embedding, labels, HardestNegatives(1))
    two = hardest_negatives(embedding, labels, HardestNegatives(2))
    assert float(one) == pytest.approx((even + even + far) / 3, rel=1e-5)
    assert float(two) == pytest.approx((even + far + even + far) / 4, rel=1e-5)


def test_only_the_hardest_negatives_are_pushed(at_degrees: Callable):
    """One image against three: with top_k 1 the gradient moves the nearest other alone."""
    embedding = tf.Variable(at_degrees(0, 60, 120, 170))
    with tf.GradientTape() as tape:
        loss = hardest_negatives(embedding, tf.constant([0, 1, 2, 2]), HardestNegatives(1))
    pushed = np.abs(tape.gradient(loss, embedding).numpy()).max(1)
    assert pushed[0] > 1e-3 and pushed[1] > 1e-3 and pushed[3] < 1e-6


def test_a_batch_of_one_class_has_no_negatives(at_degrees: Callable):
    embedding = tf.Variable(at_degrees(0, 10, 20))
    with tf.GradientTape() as tape:
        loss = hardest_negatives(embedding, tf.constant([3, 3, 3]), HardestNegatives(5))
    assert float(loss) == 0.0
    assert not np.any(tape.gradient(loss, embedding).numpy())
