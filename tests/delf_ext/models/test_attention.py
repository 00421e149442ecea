"""Test DELF's attention against its NumPy twin."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from delf_ext.models.attention import Attention


def test_attention_equals_its_numpy_twin_and_is_positive():
    positive = np.maximum(np.random.default_rng(0).normal(size=(4, 3, 3, 16)), 0)
    # The features of a trunk are never negative.
    features = tf.constant(positive, tf.float32)
    attention = Attention()
    attention(features, training=True)
    found = attention(features)
    hidden = features.numpy().astype(np.float64) @ attention.hidden.kernel.numpy()[0, 0]
    norm = attention.norm
    spread = np.sqrt(norm.moving_variance.numpy() + 1e-5)
    scaled = (hidden - norm.moving_mean) / spread * norm.gamma + norm.beta
    score = np.maximum(scaled, 0) @ attention.score.kernel.numpy()[0, 0] + attention.score.bias
    np.testing.assert_allclose(found, np.log1p(np.exp(score)), rtol=1e-4)
    assert found.shape == (4, 3, 3, 1) and float(tf.reduce_min(found)) > 0
