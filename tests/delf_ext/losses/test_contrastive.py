"""Check the contrastive loss against a float64 version and values by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.contrastive import contrastive
from delf_ext.recipes.schema import Contrastive


def slow_loss(embedding: np.ndarray, labels: np.ndarray, margin: float) -> float:
    """Loop over pairs. Source: Hadsell et al., CVPR 2006, eq. 4."""
    near, far = [], []
    for i, j in itertools.combinations(range(len(labels)), 2):
        distance = np.linalg.norm(embedding[i] - embedding[j])
        if labels[i] == labels[j]:
            near.append(distance**2 / 2)
        else:
            far.append(max(0.0, margin - distance) ** 2 / 2)
    return float(np.mean(near) + np.mean(far))


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_loss_equals_float64_version(embedding: np.ndarray, labels: np.ndarray, margin: float):
    found = contrastive(
        tf.constant(embedding, tf.float32), tf.constant(labels), Contrastive(margin)
    )
    assert float(found) == pytest.approx(slow_loss(embedding, labels, margin), rel=1e-4)


def test_loss_equals_golden_values(at_degrees: Callable):
    """By hand: 60 degrees are the distance 1, so 1/2 for one class; for two (1.5 - 1)^2 / 2."""
    embedding = at_degrees(0, 60)
    for labels, expected in (([0, 0], 0.5), ([0, 1], 0.125)):
        found = contrastive(embedding, tf.constant(labels), Contrastive(1.5))
        assert float(found) == pytest.approx(expected, abs=1e-6)
