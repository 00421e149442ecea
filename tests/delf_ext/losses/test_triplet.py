"""Check the batch-hard triplet loss against a float64 version and values by hand."""

from __future__ import annotations

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
