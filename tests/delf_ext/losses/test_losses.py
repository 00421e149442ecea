"""Each loss against a float64 twin and a golden value worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import LossConfig
from delf_ext.losses.classification import classification_loss
from delf_ext.losses.max_negative import max_negative_loss
from delf_ext.losses.pairs import pair_similarities, similarity_distance_loss, similarity_loss
from delf_ext.losses.total import named_losses, weighted_sum
from delf_ext.losses.triplet import triplet_loss

LABELS = np.array([0, 0, 1, 2, 1, 2, 0, 1])


def unit_vectors(seed: int, rows: int = 8, columns: int = 5) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, columns))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def at_degrees(*angles: float) -> tf.Tensor:
    return tf.constant([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in angles], tf.float32)


def float32(array: np.ndarray) -> tf.Tensor:
    return tf.constant(array, tf.float32)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def classification_twin(logits: np.ndarray, labels: np.ndarray) -> float:
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        share = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        total += -math.log(share[label]) + sum((share[c] - (c == label)) ** 2 for c in range(len(row)))
    return total / len(labels)


def pairs_twin(embedding: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = range(0, len(labels), 2)
    return np.array([embedding[i] @ embedding[i + 1] for i in rows]), np.array([labels[i] == labels[i + 1] for i in rows])


def max_negative_twin(embedding: np.ndarray, labels: np.ndarray, top_k: int) -> float:
    losses: list[float] = []
    for i in range(len(labels)):
        negatives = sorted((embedding[i] @ embedding[j] for j in range(len(labels)) if labels[j] != labels[i]), reverse=True)
        losses += [float(softplus((cosine - 0.5) * 32)) for cosine in negatives[:top_k]]
    return float(np.mean(losses)) if losses else 0.0


def triplet_twin(embedding: np.ndarray, labels: np.ndarray, margin: float) -> float:
    distance = np.linalg.norm(embedding[:, None] - embedding[None], axis=2)
    losses = []
    for i in range(len(labels)):
        positive = max(distance[i, j] for j in range(len(labels)) if labels[j] == labels[i] and j != i)
        negative = min(distance[i, j] for j in range(len(labels)) if labels[j] != labels[i])
        losses.append(max(positive - negative + margin, 0.0))
    return float(np.mean(losses))


@pytest.mark.parametrize("seed", range(4))
def test_losses_agree_with_their_twins(seed: int):
    embedding = unit_vectors(seed)
    logits = np.random.default_rng(seed).normal(0, 3, (8, 3))
    cosine, same = pairs_twin(embedding, LABELS)
    found = pair_similarities(float32(embedding), tf.constant(LABELS))
    np.testing.assert_allclose(found[0], cosine, atol=1e-6)
    assert found[1].numpy().tolist() == same.tolist()
    logit = (cosine - 0.5) * 32
    sigmoid = 1 / (1 + np.exp(-logit))
    vectors, labels = float32(embedding), tf.constant(LABELS)
    assert float(classification_loss(float32(logits), labels)) == pytest.approx(classification_twin(logits, LABELS), rel=1e-5)
    assert float(similarity_loss(vectors, labels)) == pytest.approx(np.mean(softplus(np.where(same, -logit, logit))), rel=1e-4)
    assert float(similarity_distance_loss(vectors, labels)) == pytest.approx(np.mean((sigmoid - same) ** 2), rel=1e-4, abs=1e-7)
    for top_k in (1, 3, 5, 50):
        expected = max_negative_twin(embedding, LABELS, top_k)
        assert float(max_negative_loss(vectors, labels, top_k)) == pytest.approx(expected, rel=1e-4)
    for margin in (0.1, 1.0):
        assert float(triplet_loss(vectors, labels, margin)) == pytest.approx(triplet_twin(embedding, LABELS, margin), rel=1e-4)


def test_golden_classification():
    """By hand: two even classes give -ln 0.5 + (0.5^2 + 0.5^2). Source of the sum: DESIGN section 7."""
    assert float(classification_loss(tf.zeros([3, 2]), tf.constant([0, 1, 1]))) == pytest.approx(math.log(2) + 0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("angle", "labels", "cross_entropy", "squared"),
    [
        (60, [0, 0], math.log(2), 0.25),  # cosine 0.5 is an even bet
        (60, [0, 1], math.log(2), 0.25),
        (0, [0, 0], math.log1p(math.exp(-16)), 0.0),
        (0, [0, 1], 16 + math.log1p(math.exp(-16)), 1.0),
        (180, [0, 0], 48.0, 1.0),  # (-1 - 0.5) * 32
    ],
)
def test_golden_pairs(angle: float, labels: list[int], cross_entropy: float, squared: float):
    """By hand from (cosine - 0.5) * 32 in a sigmoid. Source: DESIGN section 7."""
    embedding, classes = at_degrees(0, angle), tf.constant(labels)
    assert float(similarity_loss(embedding, classes)) == pytest.approx(cross_entropy, rel=1e-4, abs=1e-9)
    assert float(similarity_distance_loss(embedding, classes)) == pytest.approx(squared, abs=1e-5)


def test_pairs_are_neighbours_of_the_batch_and_no_others():
    """(0, 1) of one class and (2, 3) of two, although 0 and 2 are of one class as well."""
    cosine, same = pair_similarities(at_degrees(0, 60, 0, 90), tf.constant([4, 4, 4, 7]))
    np.testing.assert_allclose(cosine, [0.5, 0.0], atol=1e-6)
    assert same.numpy().tolist() == [1.0, 0.0]


def test_golden_hardest_negatives():
    """By hand: image 0 has negatives at cosine 0.5 and 0; each of these sees only image 0 (labels 0, 1, 1)."""
    embedding, labels = at_degrees(0, 60, 90), tf.constant([0, 1, 1])
    even, far = math.log(2), math.log1p(math.exp(-16))
    assert float(max_negative_loss(embedding, labels, 1)) == pytest.approx((even + even + far) / 3, rel=1e-5)
    assert float(max_negative_loss(embedding, labels, 2)) == pytest.approx((even + far + even + far) / 4, rel=1e-5)


def test_only_the_hardest_negatives_are_pushed():
    """One image against three: with top_k 1 of it the gradient moves the nearest other, not the farther ones."""
    embedding = tf.Variable(at_degrees(0, 60, 120, 170))
    labels = tf.constant([0, 1, 2, 2])
    with tf.GradientTape() as tape:
        loss = max_negative_loss(embedding, labels, 1)
    pushed = np.abs(tape.gradient(loss, embedding).numpy()).max(1)
    assert pushed[0] > 1e-3 and pushed[1] > 1e-3 and pushed[3] < 1e-6


def test_a_batch_of_one_class_has_no_negatives():
    embedding = tf.Variable(at_degrees(0, 10, 20))
    with tf.GradientTape() as tape:
        loss = max_negative_loss(embedding, tf.constant([3, 3, 3]), 5)
    assert float(loss) == 0.0
    assert not np.any(tape.gradient(loss, embedding).numpy())


def test_golden_triplet():
    """By hand, chords 2 sin(angle / 2): classes at (0, 60) and (180, 180) degrees, margin 0.3.

    Images 0 and 1: hardest positive 1; hardest negatives 2 and sqrt 3: hinges 0 and 0. With margin 1: 0 and 2 - sqrt 3.
    """
    embedding, labels = at_degrees(0, 60, 180, 180), tf.constant([0, 0, 1, 1])
    assert float(triplet_loss(embedding, labels, 0.3)) == pytest.approx(0.0, abs=1e-6)
    assert float(triplet_loss(embedding, labels, 1.0)) == pytest.approx((2 - math.sqrt(3)) / 4, rel=1e-4)


LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "similarity": similarity_loss,
    "similarity_distance": similarity_distance_loss,
    "max_negative": lambda embedding, labels: max_negative_loss(embedding, labels, 5),
    "triplet": lambda embedding, labels: triplet_loss(embedding, labels, 0.3),
}


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [0, 1, 0, 1]])
def test_gradients_are_finite_where_embeddings_coincide(name: str, labels: list[int]):
    """Cosine 1 and distance 0: the same photograph twice in a batch, or a network that has collapsed."""
    embedding = tf.Variable(at_degrees(30, 30, 30, 30))
    with tf.GradientTape() as tape:
        loss = LOSSES[name](tf.math.l2_normalize(embedding, axis=1), tf.constant(labels))
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, embedding).numpy()).all()


def test_bfloat16_embeddings_and_logits_are_summed_in_float32():
    embedding = tf.cast(at_degrees(0, 60, 90, 180), tf.bfloat16)
    labels = tf.constant([0, 0, 1, 1])
    for loss in LOSSES.values():
        assert loss(embedding, labels).dtype == tf.float32
    assert classification_loss(tf.zeros([4, 2], tf.bfloat16), labels).dtype == tf.float32


def test_the_losses_in_use_are_named_and_weighted():
    embedding, logits, labels = float32(unit_vectors(0)), tf.zeros([8, 3]), tf.constant(LABELS)
    endpoints = {"embedding": embedding, "logits": logits}
    flags = dict.fromkeys(("train_logits", "train_sim", "train_sim_dist", "train_max_neg", "train_triplet"), True)
    weights = {"logits_weight": 2.0, "sim_weight": 3.0, "sim_dist_weight": 0.0, "max_neg_weight": 0.5, "triplet_weight": 7.0}
    config = LossConfig(**flags, **weights, train_max_neg_topk=2, margin=0.7)
    losses = named_losses(endpoints, labels, config)
    expected = {
        "logits": classification_loss(logits, labels),
        "sim": similarity_loss(embedding, labels),
        "sim_dist": similarity_distance_loss(embedding, labels),
        "max_neg": max_negative_loss(embedding, labels, 2),
        "triplet": triplet_loss(embedding, labels, 0.7),
    }
    assert {name: float(value) for name, value in losses.items()} == {name: float(value) for name, value in expected.items()}
    by_hand = sum(weights[f"{name}_weight"] * float(value) for name, value in expected.items())
    assert float(weighted_sum(losses, config)) == pytest.approx(by_hand, rel=1e-6)


def test_a_loss_that_is_not_asked_for_needs_no_endpoint():
    assert set(named_losses({"embedding": float32(unit_vectors(0))}, tf.constant(LABELS), LossConfig(train_sim=True))) == {"sim"}
    assert set(named_losses({"logits": tf.zeros([8, 3])}, tf.constant(LABELS), LossConfig(train_logits=True))) == {"logits"}
