"""Check what holds for every loss: order of the batch, rotation, and that none is negative."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from delf_ext.losses.build import build_loss
from delf_ext.losses.loss import Targets
from delf_ext.models.heads import HeadOutput, Output
from delf_ext.recipes import schema

ON_EMBEDDINGS = [
    schema.HardestNegatives(2),
    schema.Triplet(0.5),
    schema.Triplet(0.5, "semi_hard"),
    schema.Contrastive(),
    schema.SupervisedContrastive(),
    schema.MultiSimilarity(),
]
ON_LOGITS = [
    schema.SoftmaxCrossEntropy(0.1),
    schema.NormSoftmax(label_smoothing=0.1),
    schema.CosFace(),
    schema.ArcFace(class_weights="log", adaptive_power=0.25),
    schema.ProxyAnchor(),
]
COUNTS = (3, 50, 8)


def value(config: schema.Loss, vectors: np.ndarray, labels: np.ndarray) -> float:
    head = HeadOutput(tf.constant(vectors, tf.float32), tf.constant(vectors[:, :3], tf.float32))
    output = Output(tf.zeros([1, 1]), {"main": head}, {})
    loss = build_loss(config, "main", COUNTS)
    return float(loss(output, Targets(tf.constant(labels))))


def batch(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(9, 4))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), rng.permutation(9) % 3


@pytest.mark.parametrize("config", [*ON_EMBEDDINGS, *ON_LOGITS], ids=str)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_order_of_the_batch_does_not_matter_and_no_loss_is_negative(config: schema.Loss, seed: int):
    vectors, labels = batch(seed)
    order = np.random.default_rng(seed).permutation(9)
    found = value(config, vectors, labels)
    assert found >= 0
    assert value(config, vectors[order], labels[order]) == pytest.approx(found, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("config", ON_EMBEDDINGS, ids=str)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_rotation_and_length_of_the_embeddings_do_not_matter(config: schema.Loss, seed: int):
    vectors, labels = batch(seed)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))
    found = value(config, vectors, labels)
    turned = 7 * vectors @ rotation
    assert value(config, turned, labels) == pytest.approx(found, rel=1e-3, abs=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), margin=st.floats(0, 1.5))
def test_a_margin_never_makes_a_loss_smaller(seed: int, margin: float):
    vectors, labels = batch(seed)
    without = value(schema.NormSoftmax(1 / 20), vectors, labels)
    for with_margin in (schema.CosFace(20.0, margin), schema.ArcFace(20.0, margin)):
        assert value(with_margin, vectors, labels) >= without - 1e-3
    for none in (schema.CosFace(20.0, 0.0), schema.ArcFace(20.0, 0.0)):
        assert value(none, vectors, labels) == pytest.approx(without, rel=1e-4, abs=1e-6)
