"""Check the multi-similarity loss against a float64 version, and which pairs it uses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.multi_similarity import multi_similarity
from delf_ext.recipes.schema import MultiSimilarity


def slow_loss(embedding: np.ndarray, labels: np.ndarray, config: MultiSimilarity) -> float:
    """Loop over images. Source: Wang et al., arXiv:1904.06627, eq. 10, 11 and 15."""
    rows = range(len(labels))
    total = 0.0
    for i in rows:
        cosines = embedding @ embedding[i]
        positives = [cosines[j] for j in rows if labels[j] == labels[i] and j != i]
        negatives = [cosines[j] for j in rows if labels[j] != labels[i]]
        hard_positives = [s for s in positives if s < max(negatives) + config.mining_margin]
        hard_negatives = [s for s in negatives if s > min(positives) - config.mining_margin]
        alpha, beta = config.positive_scale, config.negative_scale
        near = sum(math.exp(-alpha * (s - config.offset)) for s in hard_positives)
        far = sum(math.exp(beta * (s - config.offset)) for s in hard_negatives)
        total += math.log1p(near) / alpha + math.log1p(far) / beta
    return total / len(labels)


@pytest.mark.parametrize(
    "config", [MultiSimilarity(), MultiSimilarity(1.0, 8.0, 0.2, 1.0)], ids=["default", "other"]
)
def test_loss_equals_float64_version(
    embedding: np.ndarray, labels: np.ndarray, config: MultiSimilarity
):
    found = multi_similarity(tf.constant(embedding, tf.float32), tf.constant(labels), config)
    assert float(found) == pytest.approx(slow_loss(embedding, labels, config), rel=1e-4)


def test_loss_equals_golden_value(at_degrees: Callable):
    """By hand: each image has a positive at cosine 1 and negatives at 0.5, with offset 0.5.

    The positive is farther than the nearest negative only with a margin above 0.5. Then its loss
    is ln(1 + exp(-1)) / 2 with alpha 2, and that of two negatives is ln(1 + 2) / 4 with beta 4.
    """
    embedding = at_degrees(0, 0, 60, 60)
    labels = tf.constant([0, 0, 1, 1])
    easy = multi_similarity(embedding, labels, MultiSimilarity(2.0, 4.0, 0.5, 0.4))
    hard = multi_similarity(embedding, labels, MultiSimilarity(2.0, 4.0, 0.5, 0.6))
    assert float(easy) == 0.0
    expected = math.log1p(math.exp(-1)) / 2 + math.log(3) / 4
    assert float(hard) == pytest.approx(expected, rel=1e-5)
