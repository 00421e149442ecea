"""Test poolings against their NumPy twins."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from delf_ext.models.pooling import (
    GemPool,
    attention_pool,
    average_pool,
    generalized_mean_pool,
    norm_attention,
)
from delf_ext.recipes import schema

maps = hnp.arrays(np.float32, (2, 3, 2, 4), elements=st.floats(0.015625, 4, width=32))


@settings(max_examples=15)
@given(
    features=maps,
    attention=hnp.arrays(np.float32, (2, 3, 2, 1), elements=st.floats(0, 4, width=32)),
)
def test_poolings_equal_their_numpy_twins(features: np.ndarray, attention: np.ndarray):
    exact = features.astype(np.float64)
    np.testing.assert_allclose(average_pool(features), exact.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(
        generalized_mean_pool(features), (exact**3).mean((1, 2)) ** (1 / 3), rtol=1e-4
    )
    np.testing.assert_allclose(
        attention_pool(features, attention), (exact * attention).sum((1, 2)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        norm_attention(features)[..., 0], np.linalg.norm(exact, axis=-1), rtol=1e-5
    )


@settings(max_examples=15)
@given(features=maps)
def test_gem_is_between_average_and_maximum(features: np.ndarray):
    np.testing.assert_allclose(
        generalized_mean_pool(features, p=1.0), average_pool(features), rtol=1e-5
    )
    assert np.all(generalized_mean_pool(features) >= average_pool(features) * (1 - 1e-5))
    assert np.all(generalized_mean_pool(features) <= features.max((1, 2)) * (1 + 1e-5))


def test_gem_with_a_large_p_is_near_the_maximum():
    # For n positions it is at least max * n^(-1/p), here 6^(-1/60) = 0.97.
    features = np.random.default_rng(0).uniform(0.5, 2.0, (2, 3, 2, 4)).astype(np.float32)
    np.testing.assert_allclose(
        generalized_mean_pool(features, p=60.0), features.max((1, 2)), rtol=0.03
    )


def test_gem_of_one_and_two_by_hand():
    # arXiv:1711.02512, eq. 3: ((1 + 8) / 2)^(1/3).
    features = np.array([1.0, 2.0], np.float32).reshape(1, 2, 1, 1)
    assert float(generalized_mean_pool(features)[0, 0]) == pytest.approx(1.6509636, abs=1e-6)


def test_gem_raises_negative_values_and_zeros_to_epsilon():
    features = tf.constant([[[[-3.0, 0.0]], [[0.0, 0.0]]]])
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = generalized_mean_pool(features)
    np.testing.assert_allclose(pooled, 1e-6, rtol=1e-3)
    assert np.isfinite(tape.gradient(pooled, features)).all()


def test_gem_has_a_variable_only_if_trainable():
    features = tf.constant(np.random.default_rng(0).uniform(0.5, 2, (2, 3, 3, 4)), tf.float32)
    fixed = GemPool(schema.Gem(p=2.5))
    trained = GemPool(schema.Gem(p=2.5, trainable=True))
    np.testing.assert_array_equal(fixed(features), trained(features))
    assert fixed.variables == []
    (exponent,) = trained.trainable_variables
    assert (exponent.name, float(exponent)) == ("gem/p:0", 2.5)


def test_gradient_of_p_equals_the_difference_quotient():
    features = tf.constant(np.random.default_rng(0).uniform(0.5, 2, (2, 3, 3, 4)), tf.float32)
    pool = GemPool(schema.Gem(p=3.0, trainable=True))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(pool(features))
    (gradient,) = tape.gradient(total, pool.trainable_variables)

    def twin(p: float) -> float:
        return float(((features.numpy().astype(np.float64) ** p).mean((1, 2)) ** (1 / p)).sum())

    assert float(gradient) == pytest.approx((twin(3.001) - twin(2.999)) / 0.002, rel=1e-3)
