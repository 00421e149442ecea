"""Poolings against their NumPy twins."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from delf_ext.models.pooling import POOLINGS, attention_pool, average_pool, generalized_mean_pool, norm_attention, pool

maps = hnp.arrays(np.float32, (2, 3, 2, 4), elements=st.floats(0.015625, 4, width=32))


@settings(max_examples=15)
@given(features=maps, attention=hnp.arrays(np.float32, (2, 3, 2, 1), elements=st.floats(0, 4, width=32)))
def test_poolings_agree_with_their_twins(features: np.ndarray, attention: np.ndarray):
    exact = features.astype(np.float64)
    np.testing.assert_allclose(average_pool(features), exact.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(generalized_mean_pool(features), (exact**3).mean((1, 2)) ** (1 / 3), rtol=1e-4)
    np.testing.assert_allclose(attention_pool(features, attention), (exact * attention).sum((1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm_attention(features)[..., 0], np.linalg.norm(exact, axis=-1), rtol=1e-5)


@settings(max_examples=15)
@given(features=maps)
def test_gem_lies_between_average_and_maximum(features: np.ndarray):
    np.testing.assert_allclose(generalized_mean_pool(features, p=1.0), average_pool(features), rtol=1e-5)
    assert np.all(generalized_mean_pool(features) >= average_pool(features) * (1 - 1e-5))
    assert np.all(generalized_mean_pool(features) <= features.max((1, 2)) * (1 + 1e-5))


def test_gem_of_a_large_power_comes_near_the_maximum():
    """Of n positions never below max * n^(-1/p): here 6^(-1/60) = 0.97."""
    features = np.random.default_rng(0).uniform(0.5, 2.0, (2, 3, 2, 4)).astype(np.float32)
    np.testing.assert_allclose(generalized_mean_pool(features, p=60.0), features.max((1, 2)), rtol=0.03)


def test_golden_gem_of_one_and_two():
    """arXiv:1711.02512, eq. 3, by hand: ((1 + 8) / 2)^(1/3)."""
    features = np.array([1.0, 2.0], np.float32).reshape(1, 2, 1, 1)
    assert float(generalized_mean_pool(features)[0, 0]) == pytest.approx(1.6509636, abs=1e-6)


def test_gem_takes_negative_values_and_zeros_for_almost_nothing():
    features = tf.constant([[[[-3.0, 0.0]], [[0.0, 0.0]]]])
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = generalized_mean_pool(features)
    np.testing.assert_allclose(pooled, 1e-6, rtol=1e-3)
    assert np.isfinite(tape.gradient(pooled, features)).all()


def test_pool_by_name():
    features = np.random.default_rng(0).uniform(0, 1, (2, 3, 3, 4)).astype(np.float32)
    weighted = (features * np.linalg.norm(features, axis=-1, keepdims=True)).sum((1, 2))
    expected = {"avg": features.mean((1, 2)), "gem": (features**3).mean((1, 2)) ** (1 / 3), "attention": weighted}
    assert tuple(expected) == POOLINGS
    for kind, value in expected.items():
        np.testing.assert_allclose(pool(tf.constant(features), kind), value, rtol=1e-5)
    with pytest.raises(ValueError, match=r"unknown pooling 'max' \(--pooling\)\. Known: avg, gem, attention\."):
        pool(tf.constant(features), "max")
