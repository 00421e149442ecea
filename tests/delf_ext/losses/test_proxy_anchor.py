"""Check the proxy-anchor loss against a float64 version and a value by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.proxy_anchor import proxy_anchor
from delf_ext.recipes.schema import ProxyAnchor


def slow_loss(cosines: np.ndarray, labels: np.ndarray, config: ProxyAnchor) -> float:
    """Loop over proxies. Source: Kim et al., arXiv:2003.13911, eq. 4."""
    near, far = [], []
    for proxy in range(cosines.shape[1]):
        own = [c for c, label in zip(cosines[:, proxy], labels, strict=True) if label == proxy]
        others = [c for c, label in zip(cosines[:, proxy], labels, strict=True) if label != proxy]
        if own:
            powers = [math.exp(-config.scale * (c - config.margin)) for c in own]
            near.append(math.log1p(sum(powers)))
        far.append(math.log1p(sum(math.exp(config.scale * (c + config.margin)) for c in others)))
    return float(np.mean(near) + np.mean(far))


@pytest.mark.parametrize("config", [ProxyAnchor(), ProxyAnchor(4.0, 0.5)], ids=["default", "other"])
@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_loss_equals_float64_version(config: ProxyAnchor, dtype: tf.DType, labels: np.ndarray):
    # Two of five classes have no image in the batch.
    cosines = np.random.default_rng(0).uniform(-1, 1, (8, 5))
    found = proxy_anchor(tf.constant(cosines, tf.float32), tf.constant(labels, dtype), config)
    assert float(found) == pytest.approx(slow_loss(cosines, labels, config), rel=1e-5)


def test_loss_equals_golden_value():
    """By hand: one image of the first of two classes, cosines 0.1 and -0.1, margin 0.1.

    ln(1 + exp(0)) for its class; for the other one also ln 2, as a mean over both classes.
    """
    found = proxy_anchor(tf.constant([[0.1, -0.1]]), tf.constant([0]), ProxyAnchor())
    assert float(found) == pytest.approx(1.5 * math.log(2), abs=1e-6)
