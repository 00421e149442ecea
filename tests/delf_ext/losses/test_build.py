"""Check the losses built from a recipe: what each reads, and which are not built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.losses.arcface import arcface
from delf_ext.losses.build import build_loss
from delf_ext.losses.contrastive import contrastive
from delf_ext.losses.cosface import cosface
from delf_ext.losses.hardest_negatives import hardest_negatives
from delf_ext.losses.loss import Targets, on_head
from delf_ext.losses.multi_similarity import multi_similarity
from delf_ext.losses.norm_softmax import norm_softmax
from delf_ext.losses.pairs import pair_similarity, pair_squared_error
from delf_ext.losses.proxy_anchor import proxy_anchor
from delf_ext.losses.softmax import softmax_cross_entropy
from delf_ext.losses.supervised_contrastive import supervised_contrastive
from delf_ext.losses.triplet import triplet
from delf_ext.models.heads import HeadOutput, Output
from delf_ext.recipes import schema
from delf_ext.recipes.mandoo_dual import from_flags
from delf_ext.recipes.part import Part

BUILT: dict[schema.Loss, Callable[..., tf.Tensor]] = {
    schema.SoftmaxCrossEntropy(0.1, squared_error=True): softmax_cross_entropy,
    schema.PairSimilarity(16.0, 0.4): pair_similarity,
    schema.PairSquaredError(16.0, 0.4): pair_squared_error,
    schema.HardestNegatives(2): hardest_negatives,
    schema.Triplet(0.7): triplet,
    schema.Triplet(0.7, "semi_hard"): triplet,
    schema.NormSoftmax(0.1): norm_softmax,
    schema.ArcFace(20.0, 0.3): lambda x, labels, config: arcface(x, labels, config, 0.3),
    schema.CosFace(20.0, 0.3): cosface,
    schema.Contrastive(0.9): contrastive,
    schema.SupervisedContrastive(0.2): supervised_contrastive,
    schema.MultiSimilarity(1.0, 9.0): multi_similarity,
    schema.ProxyAnchor(9.0): proxy_anchor,
}
ALL_FLAGS = ("train_logits", "train_sim", "train_sim_dist", "train_max_neg", "train_triplet")


def output_of(vector: Any, logits: Any = None) -> Output:
    """Return a model's output with the head "main" and a head of NaN that no loss may read."""
    other = HeadOutput(tf.fill([1, 1], float("nan")))
    return Output(tf.zeros([1, 1]), {"other": other, "main": HeadOutput(vector, logits)}, {})


def of_kind(config: schema.Loss) -> str:
    return "-".join([type(config).__name__, *filter(None, [getattr(config, "mining", "")])])


@pytest.mark.parametrize("config", BUILT, ids=of_kind)
def test_loss_reads_unit_vectors_or_logits_of_its_head(config: schema.Loss, labels: np.ndarray):
    rng = np.random.default_rng(0)
    vector, logits = (tf.constant(rng.normal(0, 3, (8, n)), tf.float32) for n in (5, 3))
    loss = build_loss(config, "main")(output_of(vector, logits), Targets(tf.constant(labels)))
    read = tf.math.l2_normalize(vector, axis=1) if config.reads == "embedding" else logits
    expected = tf.reduce_mean(BUILT[config](read, tf.constant(labels), config))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert loss.dtype == tf.float32 and loss.shape == ()


REGISTERED = [kind for kind in build_loss.registry if kind is not object and kind is not Part]


@pytest.mark.parametrize("kind", REGISTERED, ids=lambda kind: kind.__name__)
def test_every_registered_loss_is_finite(
    kind: type[schema.Loss],
    labels: np.ndarray,
):
    rng = np.random.default_rng(1)
    vector, logits = (tf.constant(rng.uniform(-1, 1, (8, n)), tf.float32) for n in (5, 3))
    loss = build_loss(kind(), "main")(output_of(vector, logits), Targets(tf.constant(labels)))
    assert loss.shape == () and np.isfinite(float(loss))


def test_error_of_a_loss_not_built_lists_those_built():
    built = ", ".join(sorted(kind.__name__ for kind in REGISTERED))
    others = [kind for kind in schema.Loss.__subclasses__() if kind not in REGISTERED]
    for kind in (*others, schema.Constant):
        with pytest.raises(UsageError) as caught:
            build_loss(kind(), "main")
        assert str(caught.value) == f"{kind.__name__} is not built yet. Built: {built}."


def test_loss_on_parts_reads_the_parts():
    parts = tf.constant(np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    head = HeadOutput(tf.zeros([2, 2]), parts=tf.cast(parts, tf.bfloat16))
    total = on_head(lambda tensor, labels, config: tf.reduce_sum(tensor) + config.margin)
    loss = total(schema.Divergence(margin=0.5), "main")
    found = loss(Output(tf.zeros([2, 2]), {"main": head}, {}), Targets(tf.constant([0, 1])))
    assert float(found) == 66.5 and found.dtype == tf.float32


EDGES = {
    "equal": [(1, 0), (1, 0), (1, 0), (1, 0)],
    "opposite": [(1, 0), (-1, 0), (1, 0), (-1, 0)],
    "zero": [(0, 0), (0, 0), (1, 0), (0, 1)],
}


@pytest.mark.parametrize("config", BUILT, ids=of_kind)
@pytest.mark.parametrize("vectors", EDGES.values(), ids=EDGES)
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name)
def test_gradients_are_finite_at_the_edges(
    config: schema.Loss, vectors: list[tuple[float, float]], dtype: tf.DType
):
    """A network that has collapsed, cosines of 1 and -1, images of zeros; batches of one class."""
    vector = tf.Variable(vectors, dtype=dtype)
    for labels in ([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1], [0, 1, 2, 2]):
        with tf.GradientTape() as tape:
            # The directions of three classes; the first two are those of the vectors.
            logits = vector @ tf.constant([[1, -1, 0.6], [0, 0, 0.8]], dtype)
            targets = Targets(tf.constant(labels))
            loss = build_loss(config, "main")(output_of(vector, logits), targets)
        assert np.isfinite(float(loss)) and loss.dtype == tf.float32
        assert np.isfinite(tape.gradient(loss, vector).numpy().astype(float)).all()


def test_flags_of_the_original_set_names_weights_and_heads_of_losses():
    """The loss "logits" is on the head "logits", the others are on "similarity"."""
    weights = {"logits": 2.0, "sim": 3.0, "sim_dist": 0.0, "max_neg": 0.5, "triplet": 7.0}
    flags = {f"{name}_weight": weight for name, weight in weights.items()}
    chosen = dict.fromkeys(ALL_FLAGS, True)
    recipe = from_flags({**chosen, **flags, "train_max_neg_topk": 2, "margin": 0.7})
    found = {term.shown_name: (term.loss, term.head, term.weight) for term in recipe.losses}
    losses = {
        "logits": schema.SoftmaxCrossEntropy(squared_error=True),
        "sim": schema.PairSimilarity(),
        "sim_dist": schema.PairSquaredError(),
        "max_neg": schema.HardestNegatives(2),
        "triplet": schema.Triplet(0.7),
    }
    heads = {name: "logits" if name == "logits" else "similarity" for name in losses}
    assert found == {name: (loss, heads[name], weights[name]) for name, loss in losses.items()}


@pytest.mark.parametrize(
    "config",
    [config for config in BUILT if config.mixes],
    ids=lambda c: type(c).__name__,
)
def test_loss_of_mixed_images_is_the_weighted_mean_for_both_labels(config: schema.Loss):
    """Compute each image by itself, once for each label."""
    rng = np.random.default_rng(0)
    logits = tf.constant(rng.normal(0, 1, (4, 3)), tf.float32)
    first, second = rng.integers(0, 3, (2, 4))
    shares = np.array([1.0, 0.75, 0.25, 0.0], np.float32)
    loss = build_loss(config, "main")
    found = loss(output_of(logits, logits), Targets(first, second, shares))
    expected = 0.0
    for row, share in enumerate(shares):
        output = output_of(logits[row : row + 1], logits[row : row + 1])
        for labels, weight in ((first, share), (second, 1 - share)):
            expected += weight * float(loss(output, Targets(labels[row : row + 1]))) / len(shares)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_label_with_the_larger_share_counts():
    shares = tf.constant([1.0, 0.5, 0.25])
    targets = Targets(tf.constant([0, 1, 2]), tf.constant([3, 4, 5]), shares)
    assert targets.larger.numpy().tolist() == [0, 1, 5]


def test_loss_on_embeddings_refuses_mixed_images():
    loss = build_loss(schema.PairSimilarity(), "main")
    vector = tf.ones([2, 3])
    with pytest.raises(ValueError, match="PairSimilarity is not defined for mixed images."):
        loss(output_of(vector, vector), Targets(tf.zeros(2), tf.zeros(2), tf.ones(2)))
