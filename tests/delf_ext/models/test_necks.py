"""Test necks in training; test_build.py tests their values at inference."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.models.build import build_neck
from delf_ext.models.necks import DenseNeck, layer_norm
from delf_ext.recipes.schema import Dense, Dropout, LayerNorm

VECTORS = tf.constant(np.random.default_rng(0).normal(1, 2, (64, 5)), tf.float32)


def test_batch_norm_in_training_uses_the_batch_and_changes_statistics_by_a_tenth():
    neck = DenseNeck(Dense(3, normalization="batch"), "dense1")
    linear = lambda: neck.linear(VECTORS).numpy().astype(np.float64)  # noqa: E731
    found = neck(VECTORS, training=True).numpy()
    mean, variance = linear().mean(0), linear().var(0)
    np.testing.assert_allclose(found, (linear() - mean) / np.sqrt(variance + 1e-5), atol=1e-4)
    np.testing.assert_allclose(neck.norm.moving_mean, 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(neck.norm.moving_variance, 0.9 + 0.1 * variance, rtol=1e-4)
    before = neck.norm.moving_mean.numpy()
    neck(VECTORS, training=False)
    np.testing.assert_array_equal(neck.norm.moving_mean, before)


@pytest.mark.parametrize("training", [False, True])
def test_layer_norm_gives_each_vector_mean_0_and_variance_1(training: bool):
    variance = VECTORS.numpy().var(1)
    for layer in (layer_norm(LayerNorm(), "norm"), layer_norm(LayerNorm(affine=True), "norm")):
        found = layer(VECTORS, training=training).numpy()
        np.testing.assert_allclose(found.mean(1), 0, atol=1e-5)
        np.testing.assert_allclose(found.var(1), variance / (variance + 1e-5), atol=1e-5)


def test_layer_norm_by_hand():
    # 1, 3 have mean 2 and variance 1, so they become -1, 1 (arXiv:1607.06450, eq. 4).
    found = layer_norm(LayerNorm(), "norm")(tf.constant([[1.0, 3.0]]))
    np.testing.assert_allclose(found, [[-1, 1]], atol=1e-5)


def test_layer_norm_has_variables_only_if_affine():
    plain = layer_norm(LayerNorm(), "norm")
    affine = layer_norm(LayerNorm(affine=True), "norm")
    plain(VECTORS)
    affine(VECTORS)
    assert plain.variables == []
    assert [variable.name for variable in affine.variables] == ["norm/gamma:0", "norm/beta:0"]


def test_prelu_has_one_negative_slope_per_unit():
    neck = DenseNeck(Dense(3, "prelu"), "dense1")
    neck(VECTORS)
    slopes = neck.activation.alpha
    assert slopes.shape == (3,)
    slopes.assign([0.5, 0.0, -1.0])
    neck.linear.kernel.assign(tf.zeros([5, 3]))
    neck.linear.bias.assign([-2.0, -2.0, -2.0])
    np.testing.assert_allclose(neck(VECTORS)[0], [-1, 0, 2], atol=1e-6)
    neck.linear.bias.assign([2.0, 2.0, 2.0])
    np.testing.assert_allclose(neck(VECTORS)[0], [2, 2, 2], atol=1e-6)


def test_dropout_in_training_drops_its_share_and_scales_the_rest():
    tf.keras.utils.set_random_seed(0)
    neck = DenseNeck(Dense(400, dropout=0.25), "dense1")
    plain = neck(VECTORS, training=False).numpy()
    np.testing.assert_array_equal(neck(VECTORS, training=False), plain)
    found = neck(VECTORS, training=True).numpy()
    dropped = found == 0
    assert dropped.mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(found[~dropped], plain[~dropped] / 0.75, rtol=1e-5)


def test_dropout_neck_drops_its_share_in_training_only_and_has_no_parameters():
    neck = build_neck(Dropout(0.25), "dropout1")
    vectors = tf.ones([64, 400])
    np.testing.assert_array_equal(neck(vectors, training=False), vectors)
    found = neck(vectors, training=True).numpy()
    assert (found == 0).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(found[found != 0], 1 / 0.75, rtol=1e-6)
    assert neck.variables == []


def test_neck_applies_normalization_then_activation_then_dropout():
    tf.keras.utils.set_random_seed(0)
    neck = DenseNeck(Dense(400, "relu", "batch", 0.5), "dense1")
    found = neck(VECTORS, training=True).numpy()
    assert found.min() == 0
    # Half of what is normalized is positive, and half of that is dropped.
    assert (found > 0).mean() == pytest.approx(0.25, abs=0.02)
