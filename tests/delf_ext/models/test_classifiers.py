"""Classifiers: their values are in test_build.py, here is what a cosine cannot do."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from delf_ext.models.classifiers import CosineClassifier, linear
from delf_ext.recipes.schema import Cosine, Linear


def test_golden_cosine():
    """By hand: (3, 4) and the directions (1, 0), (0, -2), (6, 8) of columns: 0.6, -0.8 and 1."""
    classifier = CosineClassifier(Cosine(), 3)
    classifier(tf.zeros([1, 2]))
    classifier.kernel.assign([[1.0, 0.0, 6.0], [0.0, -2.0, 8.0]])
    np.testing.assert_allclose(classifier(tf.constant([[3.0, 4.0]])), [[0.6, -0.8, 1.0]], atol=1e-6)


def test_a_cosine_sees_no_lengths():
    rng = np.random.default_rng(0)
    vectors = tf.constant(rng.normal(size=(6, 5)), tf.float32)
    classifier = CosineClassifier(Cosine(), 4)
    found = classifier(vectors).numpy()
    assert np.abs(found).max() <= 1 + 1e-6
    np.testing.assert_allclose(classifier(7.0 * vectors), found, atol=1e-6)
    classifier.kernel.assign(classifier.kernel * rng.uniform(0.5, 3, (1, 4)))
    np.testing.assert_allclose(classifier(vectors), found, atol=1e-6)


def test_a_vector_of_zeros_has_finite_logits_and_gradients():
    classifier, vector = CosineClassifier(Cosine(), 4), tf.Variable(tf.zeros([1, 5]))
    with tf.GradientTape() as tape:
        logits = classifier(vector)
    np.testing.assert_array_equal(logits, np.zeros((1, 4)))
    assert np.isfinite(tape.gradient(logits, vector)).all()


def test_the_parameters_of_both_classifiers():
    cosine, plain = CosineClassifier(Cosine(), 4), linear(Linear(), 4)
    cosine(tf.zeros([1, 5])), plain(tf.zeros([1, 5]))
    assert [tuple(variable.shape) for variable in cosine.trainable_variables] == [(5, 4)]
    assert [tuple(variable.shape) for variable in plain.trainable_variables] == [(5, 4), (4,)]
