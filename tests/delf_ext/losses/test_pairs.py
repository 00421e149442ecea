"""Check pair losses against float64 versions and values by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.pairs import pair_similarity, pair_squared_error
from delf_ext.recipes.schema import PairSimilarity, PairSquaredError


def slow_pairs(embedding: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = range(0, len(labels), 2)
    cosines = [embedding[i] @ embedding[i + 1] for i in rows]
    return np.array(cosines), np.array([labels[i] == labels[i + 1] for i in rows])


@pytest.mark.parametrize(("scale", "offset"), [(32.0, 0.5), (7.0, -0.2)])
def test_pair_losses_equal_float64_versions(
    embedding: np.ndarray,
    labels: np.ndarray,
    scale: float,
    offset: float,
):
    cosine, same = slow_pairs(embedding, labels)
    vectors = tf.constant(embedding, tf.float32)
    classes = tf.constant(labels)
    logit = (cosine - offset) * scale
    sigmoid = 1 / (1 + np.exp(-logit))
    cross_entropy = np.logaddexp(0, np.where(same, -logit, logit)).mean()
    found = pair_similarity(vectors, classes, PairSimilarity(scale, offset))
    assert float(found) == pytest.approx(cross_entropy, rel=1e-4)
    found = pair_squared_error(vectors, classes, PairSquaredError(scale, offset))
    assert float(found) == pytest.approx(np.mean((sigmoid - same) ** 2), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize(
    ("angle", "labels", "cross_entropy", "squared"),
    [
        # Cosine 0.5 means a probability of 1/2.
        (60, [0, 0], math.log(2), 0.25),
        (60, [0, 1], math.log(2), 0.25),
        (0, [0, 0], math.log1p(math.exp(-16)), 0.0),
        (0, [0, 1], 16 + math.log1p(math.exp(-16)), 1.0),
        # (-1 - 0.5) * 32 = -48.
        (180, [0, 0], 48.0, 1.0),
    ],
)
def test_pair_losses_equal_golden_values(
    at_degrees: Callable,
    angle: float,
    labels: list[int],
    cross_entropy: float,
    squared: float,
):
    """By hand, from (cosine - 0.5) * 32 in a sigmoid. Source: settings of the 2018 original."""
    embedding = at_degrees(0, angle)
    classes = tf.constant(labels)
    found = pair_similarity(embedding, classes, PairSimilarity())
    assert float(found) == pytest.approx(cross_entropy, rel=1e-4, abs=1e-9)
    found = pair_squared_error(embedding, classes, PairSquaredError())
    assert float(found) == pytest.approx(squared, abs=1e-5)


def test_pairs_are_consecutive_images_of_the_batch(at_degrees: Callable):
    """Images 0 and 2 are of one class too, but they are no pair.

    By hand: the pairs have cosine 0.5 and probability 1/2, and cosine 0.0 and nearly 0.
    """
    labels = tf.constant([4, 4, 4, 7])
    found = pair_squared_error(at_degrees(0, 60, 0, 90), labels, PairSquaredError())
    assert float(found) == pytest.approx((0.25 + 0.0) / 2, abs=1e-6)
