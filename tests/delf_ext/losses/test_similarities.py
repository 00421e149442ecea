"""Check comparisons of the images of a batch, also under mixed precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.similarities import (
    cosines,
    distances,
    log_one_plus_sum_exp,
    mean_where,
    pairs,
)
from delf_ext.models.precision import set_mixed_precision


def test_cosines_and_distances_equal_float64_versions(embedding: np.ndarray):
    vectors = tf.constant(embedding, tf.float32)
    np.testing.assert_allclose(cosines(vectors), embedding @ embedding.T, atol=1e-6)
    exact = np.linalg.norm(embedding[:, None] - embedding[None], axis=2)
    np.testing.assert_allclose(distances(vectors), exact, atol=1e-5)


def test_small_distances_are_exact_in_mixed_precision():
    """A product of float32 in bfloat16 would round the cosine .9998 to 1, and .02 to 0."""
    set_mixed_precision("bfloat16")
    try:
        angles = tf.constant([0.0, 0.02, 0.04])
        vectors = tf.stack([tf.cos(angles), tf.sin(angles)], axis=1)
        found = tf.function(distances)(vectors)
    finally:
        set_mixed_precision("off")
    assert found[0, 1:].numpy() == pytest.approx([0.02, 0.04], rel=1e-3)


def test_pairs_are_of_different_images():
    positive, negative = pairs(tf.constant([4, 7, 4]))
    assert np.argwhere(positive).tolist() == [[0, 2], [2, 0]]
    assert np.argwhere(negative).tolist() == [[0, 1], [1, 0], [1, 2], [2, 1]]


def test_mean_of_no_values_is_zero():
    values = tf.constant([1.0, 2.0, 6.0])
    assert float(mean_where(values, tf.constant([True, False, True]))) == 3.5
    assert float(mean_where(values, tf.constant([False] * 3))) == 0.0


def test_logarithm_of_sums_does_not_overflow():
    values = tf.constant([[0.0, 5.0], [1000.0, 1000.0], [3.0, 4.0]])
    chosen = tf.constant([[True, False], [True, True], [False, False]])
    found = log_one_plus_sum_exp(values, chosen).numpy()
    assert found == pytest.approx([math.log(2), 1000 + math.log(2), 0.0], rel=1e-6)
