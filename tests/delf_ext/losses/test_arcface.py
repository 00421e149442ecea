"""Check ArcFace against float64 versions, at the ends of its domain, and its class weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.losses.arcface import arcface, build_arcface, with_margin
from delf_ext.losses.class_balance import adaptive_margins, log_weights
from delf_ext.losses.loss import Targets
from delf_ext.losses.norm_softmax import norm_softmax
from delf_ext.models.heads import HeadOutput, Output
from delf_ext.recipes.schema import ArcFace, NormSoftmax

COSINES = np.random.default_rng(0).uniform(-1, 1, (8, 3))
COUNTS = (2, 30, 9)


def slow_losses(
    cosines: np.ndarray, labels: np.ndarray, config: ArcFace, margins_rad: np.ndarray
) -> np.ndarray:
    """Loop over images, in float64, with angles. Source: Deng et al., arXiv:1801.07698, eq. 3."""
    losses = []
    for row, label, margin in zip(cosines, labels, margins_rad, strict=True):
        angle = math.acos(row[label])
        changed = row.copy()
        changed[label] = math.cos(angle + margin)
        if angle + margin > math.pi:
            changed[label] = math.cos(angle) + math.cos(margin) - 1
        powers = np.exp(config.scale * (changed - changed.max()))
        shares = config.label_smoothing / len(row) + np.eye(len(row))[label] * (
            1 - config.label_smoothing
        )
        losses.append(-(shares * np.log(powers / powers.sum())).sum())
    return np.array(losses)


@pytest.mark.parametrize(
    "config",
    [ArcFace(), ArcFace(8.0, 1.5), ArcFace(8.0, 3.0), ArcFace(5.0, 0.3, label_smoothing=0.2)],
    ids=["default", "half", "large", "smooth"],
)
def test_loss_equals_float64_version(config: ArcFace, labels: np.ndarray):
    found = arcface(
        tf.constant(COSINES, tf.float32), tf.constant(labels), config, config.margin_rad
    )
    expected = slow_losses(COSINES, labels, config, np.full(8, config.margin_rad))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_loss_of_two_classes_equals_golden_value():
    """By hand: angles 60 and 90 degrees, a margin of 30, scale 1: ln(1 + e^(0 - 0)) = ln 2."""
    cosines = tf.constant([[0.5, 0.0]])
    config = ArcFace(scale=1.0, margin_rad=math.pi / 6)
    found = arcface(cosines, tf.constant([0]), config, config.margin_rad)
    assert float(found[0]) == pytest.approx(math.log(2), abs=1e-6)


def test_margin_of_zero_is_the_softmax_of_cosines(labels: np.ndarray):
    cosines = tf.constant(COSINES, tf.float32)
    found = arcface(cosines, tf.constant(labels), ArcFace(20.0, 0.0), 0.0)
    expected = norm_softmax(cosines, tf.constant(labels), NormSoftmax(1 / 20))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("margin_rad", [0.0, 0.4, 1.2, 2.0, 3.1])
def test_cosine_with_margin_falls_with_the_angle_and_has_no_jump(margin_rad: float):
    """Beyond pi - margin, cos(angle + margin) alone would rise again."""
    angles = np.linspace(0, np.pi, 2001)
    found = with_margin(tf.constant(np.cos(angles), tf.float32), margin_rad).numpy()
    steps = np.diff(found)
    assert steps.max() < 1e-6
    # No slope is steeper than that of the sine, and the first and last sines are raised.
    assert steps.min() > -np.pi / 2000 - 4e-4
    before = angles + margin_rad < np.pi
    np.testing.assert_allclose(found[before], np.cos(angles + margin_rad)[before], atol=4e-4)


@pytest.mark.parametrize("cosine", [1.0, -1.0, 1.004, -1.004, 0.0])
@pytest.mark.parametrize("margin_rad", [0.0, 0.4, 3.1])
def test_gradient_is_finite_at_the_ends_of_the_domain(cosine: float, margin_rad: float):
    """1.004 is a cosine in bfloat16."""
    cosines = tf.Variable([[cosine, -cosine]])
    for label in (0, 1):
        with tf.GradientTape() as tape:
            loss = arcface(cosines, tf.constant([label]), ArcFace(), margin_rad)
        assert np.isfinite(loss).all()
        assert np.isfinite(tape.gradient(loss, cosines).numpy()).all()


def built_loss(config: ArcFace, labels: np.ndarray) -> float:
    head = HeadOutput(tf.zeros([8, 2]), tf.constant(COSINES, tf.float32))
    output = Output(tf.zeros([8, 2]), {"main": head}, {})
    return float(build_arcface(config, "main", COUNTS)(output, Targets(tf.constant(labels))))


def test_rare_classes_have_larger_weights(labels: np.ndarray):
    config = ArcFace(class_weights="log")
    weights = 1 / np.log(1 + np.array(COUNTS))
    weights /= weights.mean()
    np.testing.assert_allclose(log_weights(COUNTS), weights)
    losses = slow_losses(COSINES, labels, config, np.full(8, 0.4)) * weights[labels]
    assert built_loss(config, labels) == pytest.approx(losses.mean(), rel=1e-4)


def test_rare_classes_have_larger_margins(labels: np.ndarray):
    """By hand for the third class: (9^-.5 - 30^-.5) / (2^-.5 - 30^-.5) = 0.28742."""
    config = ArcFace(10.0, 0.5, adaptive_power=0.5, min_margin_rad=0.1)
    margins = adaptive_margins(COUNTS, 0.5, 0.1, 0.5)
    np.testing.assert_allclose(margins, [0.5, 0.1, 0.1 + 0.4 * 0.28742], atol=1e-5)
    losses = slow_losses(COSINES, labels, config, np.array(margins)[labels])
    assert built_loss(config, labels) == pytest.approx(losses.mean(), rel=1e-4)


def test_classes_of_equal_size_have_the_largest_margin_and_weight_one():
    assert adaptive_margins([7, 7], 0.25, 0.05, 0.5) == [0.5, 0.5]
    assert log_weights([7, 7]) == [1.0, 1.0]
