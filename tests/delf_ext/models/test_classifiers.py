"""Test the cosine classifier; test_build.py tests the values of all classifiers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from delf_ext.models.classifiers import CosineClassifier, linear
from delf_ext.recipes.schema import Cosine, Linear


def test_cosine_by_hand():
    # The vector (3, 4) and the directions (1, 0), (0, -2), (6, 8).
    classifier = CosineClassifier(Cosine(), 3)
    classifier(tf.zeros([1, 2]))
    classifier.kernel.assign([[1.0, 0.0, 6.0], [0.0, -2.0, 8.0]])
    np.testing.assert_allclose(classifier(tf.constant([[3.0, 4.0]])), [[0.6, -0.8, 1.0]], atol=1e-6)


def test_cosine_does_not_depend_on_lengths():
    rng = np.random.default_rng(0)
    vectors = tf.constant(rng.normal(size=(6, 5)), tf.float32)
    classifier = CosineClassifier(Cosine(), 4)
    logits = classifier(vectors).numpy()
    assert np.abs(logits).max() <= 1 + 1e-6
    np.testing.assert_allclose(classifier(7.0 * vectors), logits, atol=1e-6)
    classifier.kernel.assign(classifier.kernel * rng.uniform(0.5, 3, (1, 4)))
    np.testing.assert_allclose(classifier(vectors), logits, atol=1e-6)


def test_zero_vector_has_finite_logits_and_gradients():
    classifier = CosineClassifier(Cosine(), 4)
    vector = tf.Variable(tf.zeros([1, 5]))
    with tf.GradientTape() as tape:
        logits = classifier(vector)
    np.testing.assert_array_equal(logits, np.zeros((1, 4)))
    assert np.isfinite(tape.gradient(logits, vector)).all()


def test_cosine_has_no_bias():
    cosine = CosineClassifier(Cosine(), 4)
    plain = linear(Linear(), 4)
    cosine(tf.zeros([1, 5]))
    plain(tf.zeros([1, 5]))
    assert [tuple(variable.shape) for variable in cosine.trainable_variables] == [(5, 4)]
    assert [tuple(variable.shape) for variable in plain.trainable_variables] == [(5, 4), (4,)]
