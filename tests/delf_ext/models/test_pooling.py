"""Test poolings against their NumPy twins."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from delf_ext.models.pooling import (
    LEAST_P,
    GemPool,
    attention_pool,
    average_pool,
    generalized_mean_pool,
    max_pool,
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
    np.testing.assert_array_equal(max_pool(features), features.max((1, 2)))
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


@pytest.mark.parametrize("p", [0.1, 1.0, 8.0, 100.0])
@pytest.mark.parametrize("value", [0.0, 1e-3, 300.0])
def test_gem_and_its_gradients_are_finite_for_any_p(p: float, value: float):
    """Powers of the features themselves would be 0 or infinite: 300^100, or (1e-6)^8."""
    features = tf.constant([[[[value, -value], [value / 2, 0.0]]]])
    exponent = tf.Variable(p)
    with tf.GradientTape() as tape:
        tape.watch(features)
        pooled = generalized_mean_pool(features, exponent)
    np.testing.assert_array_less(0, pooled)
    for gradient in tape.gradient(pooled, [features, exponent]):
        assert np.isfinite(gradient).all()
    larger, smaller = max(value, 1e-6), max(value / 2, 1e-6)
    twin = larger * ((1 + (smaller / larger) ** p) / 2) ** (1 / p)
    assert float(pooled[0, 0]) == pytest.approx(twin, rel=1e-4)


def test_gem_computes_powers_of_bfloat16_features_in_float32():
    features = np.random.default_rng(0).uniform(0.5, 2, (2, 3, 3, 4))
    rounded = tf.cast(tf.constant(features), tf.bfloat16)
    found = generalized_mean_pool(rounded, 3.0)
    exact = tf.cast(rounded, tf.float64).numpy()
    np.testing.assert_allclose(found, (exact**3).mean((1, 2)) ** (1 / 3), rtol=1e-5)


def test_trained_p_moves_and_stays_above_zero():
    # The maximum is far above the mean, so a small loss needs a small p.
    features = tf.constant([[[[4.0], [0.5]], [[0.5], [0.5]]]])
    pool = GemPool(schema.Gem(p=3.0, trainable=True))
    optimizer = tf.keras.optimizers.SGD(5.0)
    seen = []
    for _ in range(8):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(pool(features))
        optimizer.minimize(total, pool.trainable_variables, tape)
        seen.append(float(pool.p))
    assert seen[0] < 3.0
    assert min(seen) == pytest.approx(LEAST_P)
    assert np.isfinite(pool(features)).all()


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
