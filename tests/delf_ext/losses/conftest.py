"""Provide labels and embeddings to the tests of the losses."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def labels() -> np.ndarray:
    return np.array([0, 0, 1, 2, 1, 2, 0, 1])


@pytest.fixture(params=range(4))
def embedding(request: pytest.FixtureRequest) -> np.ndarray:
    """Return float64 [8, 5] of unit length, one set for each seed."""
    vectors = np.random.default_rng(request.param).normal(size=(8, 5))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def at_degrees() -> Callable[..., tf.Tensor]:
    """Return a function from angles in degrees to unit vectors float32 [B, 2]."""

    def vectors(*angles: float) -> tf.Tensor:
        radians = [math.radians(angle) for angle in angles]
        return tf.constant([[math.cos(r), math.sin(r)] for r in radians], tf.float32)

    return vectors
