"""Check the supervised contrastive loss against a float64 version and a value by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.supervised_contrastive import supervised_contrastive
from delf_ext.recipes.schema import SupervisedContrastive


def slow_loss(embedding: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Loop over images. Source: Khosla et al., arXiv:2004.11362, eq. 2."""
    losses = []
    rows = range(len(labels))
    for i in rows:
        powers = {a: math.exp(embedding[i] @ embedding[a] / temperature) for a in rows if a != i}
        positives = [p for p in powers if labels[p] == labels[i]]
        logs = [math.log(powers[p] / sum(powers.values())) for p in positives]
        if positives:
            losses.append(-sum(logs) / len(positives))
    return float(np.mean(losses))


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_loss_equals_float64_version(embedding: np.ndarray, temperature: float):
    # Class 3 has one image: it counts as a negative only.
    labels = np.array([0, 0, 1, 2, 1, 2, 0, 3])
    config = SupervisedContrastive(temperature)
    found = supervised_contrastive(tf.constant(embedding, tf.float32), tf.constant(labels), config)
    assert float(found) == pytest.approx(slow_loss(embedding, labels, temperature), rel=1e-4)


def test_loss_equals_golden_value(at_degrees: Callable):
    """By hand, with T = 1: each of two equal images has exp(1) / (exp(1) + exp(-1))."""
    config = SupervisedContrastive(1.0)
    found = supervised_contrastive(at_degrees(0, 0, 180), tf.constant([0, 0, 1]), config)
    assert float(found) == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-6)
