"""Check the batch-hard triplet loss against a float64 version and values by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.triplet import triplet
from delf_ext.recipes.schema import Triplet


def slow_loss(embedding: np.ndarray, labels: np.ndarray, margin: float) -> float:
    distance = np.linalg.norm(embedding[:, None] - embedding[None], axis=2)
    rows = range(len(labels))
    losses = []
    for i in rows:
        positive = max(distance[i, j] for j in rows if labels[j] == labels[i] and j != i)
        negative = min(distance[i, j] for j in rows if labels[j] != labels[i])
        losses.append(max(positive - negative + margin, 0.0))
    return float(np.mean(losses))


@pytest.mark.parametrize("margin", [0.1, 1.0])
def test_loss_equals_float64_version(embedding: np.ndarray, labels: np.ndarray, margin: float):
    found = triplet(tf.constant(embedding, tf.float32), tf.constant(labels), Triplet(margin))
    assert float(found) == pytest.approx(slow_loss(embedding, labels, margin), rel=1e-4)


def test_loss_equals_golden_values(at_degrees: Callable):
    """By hand: the distance of two unit vectors is 2 sin(angle / 2).

    Images 0 and 1 have the hardest positive at distance 1, the hardest negatives at 2 and sqrt 3.
    So with margin 0.3 their losses are 0 and 0, with margin 1 they are 0 and 2 - sqrt 3.
    """
    embedding = at_degrees(0, 60, 180, 180)
    labels = tf.constant([0, 0, 1, 1])
    assert float(triplet(embedding, labels, Triplet(0.3))) == pytest.approx(0.0, abs=1e-6)
    expected = (2 - math.sqrt(3)) / 4
    assert float(triplet(embedding, labels, Triplet(1.0))) == pytest.approx(expected, rel=1e-4)


def slow_semi_hard(embedding: np.ndarray, labels: np.ndarray, margin: float) -> float:
    """Loop over pairs of one class. Source: Schroff et al., arXiv:1503.03832, section 3.2."""
    distance = np.linalg.norm(embedding[:, None] - embedding[None], axis=2)
    rows = range(len(labels))
    losses = []
    for i, j in itertools.permutations(rows, 2):
        if labels[i] == labels[j]:
            negatives = [distance[i, k] for k in rows if labels[k] != labels[i]]
            farther = [negative for negative in negatives if negative > distance[i, j]]
            negative = min(farther) if farther else max(negatives)
            losses.append(max(distance[i, j] - negative + margin, 0.0))
    return float(np.mean(losses))


@pytest.mark.parametrize("margin", [0.1, 1.0])
def test_semi_hard_loss_equals_float64_version(
    embedding: np.ndarray, labels: np.ndarray, margin: float
):
    config = Triplet(margin, "semi_hard")
    found = triplet(tf.constant(embedding, tf.float32), tf.constant(labels), config)
    assert float(found) == pytest.approx(slow_semi_hard(embedding, labels, margin), rel=1e-4)


def test_semi_hard_loss_uses_the_nearest_negative_that_is_farther(at_degrees: Callable):
    """By hand: the positive of image 0 is at 60 degrees, the negatives at 50 and 120.

    Images 2 and 3 have no positive. The pair (0, 1) has 1 - sqrt 3 + 1; image 1 has its negatives
    at 10 and 60 degrees, and none is farther than 60: 1 - 1 + 1 with the farthest.
    """
    found = triplet(
        at_degrees(0, 60, 50, 120), tf.constant([0, 0, 1, 2]), Triplet(1.0, "semi_hard")
    )
    assert float(found) == pytest.approx((2 - math.sqrt(3) + 1) / 2, rel=1e-3)
