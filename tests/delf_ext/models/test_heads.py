"""Test heads against NumPy twins: inputs, appended logits, joined embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.heads import Head, Heads, Output
from delf_ext.recipes import schema
from delf_ext.recipes.mandoo_dual import from_flags

NUM_CLASSES = 5
BOTH = {"train_logits": True, "train_sim": True}


@pytest.fixture(scope="module")
def features() -> tf.Tensor:
    """Return features that are never negative, as those of a trunk."""
    positive = np.maximum(np.random.default_rng(0).normal(size=(4, 3, 3, 16)), 0)
    return tf.constant(positive, tf.float32)


@pytest.fixture(scope="module")
def exact(features: tf.Tensor) -> np.ndarray:
    return features.numpy().astype(np.float64)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def affine(vectors: np.ndarray, layer: tf.keras.layers.Layer) -> np.ndarray:
    return vectors @ layer.kernel.numpy().astype(np.float64) + layer.bias.numpy()


def heads_of(*heads: schema.Head, embedding: tuple[str, ...] = ()) -> Heads:
    model = schema.Model(heads=heads, embedding=embedding or (heads[-1].name,))
    return Heads(model, NUM_CLASSES)


# --- the heads of the 2018 original


def similarity_twin(
    heads: Heads,
    exact: np.ndarray,
    output: Output,
    flags: dict[str, bool],
) -> np.ndarray:
    vector = (output.endpoints["attention"].numpy().astype(np.float64) * exact).sum((1, 2))
    if flags.get("skipcon_attn"):
        vector = vector + exact.sum((1, 2))
    if flags.get("logit_concat_sim"):
        vector = np.concatenate([vector, output.heads["logits"].logits], axis=1)
    first, second = (layer.linear for layer in heads.by_name["similarity"].neck)
    return affine(np.maximum(affine(vector, first), 0), second)


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"skipcon_attn": True},
        {"logit_concat_sim": True},
        {"skipcon_attn": True, "logit_concat_sim": True},
    ],
    ids=lambda flags: "+".join(flags) or "plain",
)
def test_similarity_head_equals_its_numpy_twin(
    features: tf.Tensor,
    exact: np.ndarray,
    flags: dict[str, bool],
):
    heads = Heads(from_flags({**BOTH, **flags}).model, NUM_CLASSES)
    output = heads(features)
    vector = similarity_twin(heads, exact, output, flags)
    np.testing.assert_allclose(output.heads["similarity"].vector, vector, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output.embedding, unit(vector), atol=2e-6)
    first = heads.by_name["similarity"].neck[0].linear.kernel
    assert first.shape == (16 + (NUM_CLASSES if flags.get("logit_concat_sim") else 0), 1024)
    assert output.embedding.shape == (4, 2048) and output.heads["similarity"].logits is None


def test_logits_equal_their_numpy_twin(features: tf.Tensor, exact: np.ndarray):
    heads = Heads(from_flags(BOTH).model, NUM_CLASSES)
    output = heads(features)
    directions = exact / np.linalg.norm(exact, axis=-1, keepdims=True)
    pooled = (output.endpoints["attention"].numpy() * directions).mean((1, 2))
    expected = affine(pooled, heads.by_name["logits"].classifier)
    assert expected.shape == (4, NUM_CLASSES)
    np.testing.assert_allclose(output.heads["logits"].logits, expected, atol=1e-6)
    np.testing.assert_allclose(output.heads["logits"].vector, pooled, atol=1e-6)


def test_embedding_without_a_similarity_head_is_the_attention_weighted_sum(
    features: tf.Tensor,
    exact: np.ndarray,
):
    output = Heads(from_flags({"train_logits": True}).model, NUM_CLASSES)(features)
    pooled = (output.endpoints["attention"].numpy() * exact).sum((1, 2))
    np.testing.assert_allclose(output.embedding, unit(pooled), atol=1e-6)
    assert set(output.heads) == {"logits", "pooled"} and set(output.endpoints) == {"attention"}


# --- any heads


def test_logits_of_earlier_heads_are_appended_in_the_order_of_the_recipe(
    features: tf.Tensor,
    exact: np.ndarray,
):
    first = schema.Head("first", classifier=schema.Linear())
    second = schema.Head("second", classifier=schema.Cosine())
    heads = heads_of(first, second, schema.Head("third", append=("second", "first")))
    output = heads(features)
    parts = [exact.mean((1, 2)), output.heads["second"].logits, output.heads["first"].logits]
    vector = output.heads["third"].vector
    np.testing.assert_allclose(vector, np.concatenate(parts, axis=1), rtol=1e-5)
    assert vector.shape == (4, 16 + 2 * NUM_CLASSES)


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_stop_gradient_trains_only_the_head_itself(
    features: tf.Tensor,
    stop_gradient: bool,
):
    first = schema.Head("first", classifier=schema.Linear())
    pool = schema.DelfAttention(normalized=False)
    second = schema.Head(
        "second",
        pool,
        neck=(schema.Dense(4),),
        append=("first",),
        stop_gradient=stop_gradient,
    )
    heads = heads_of(first, second)
    heads(features)
    sources = {
        "features": features,
        "attention": heads.attention.score.kernel,
        "first": heads.by_name["first"].classifier.kernel,
        "second": heads.by_name["second"].neck[0].linear.kernel,
    }
    with tf.GradientTape() as tape:
        tape.watch(features)
        total = tf.reduce_sum(heads(features).heads["second"].vector ** 2)
    gradients = tape.gradient(total, sources)
    reached = {name for name, gradient in gradients.items() if gradient is not None}
    assert reached == ({"second"} if stop_gradient else set(sources))


def test_embedding_joins_unit_vectors_in_the_order_of_the_recipe(
    features: tf.Tensor, exact: np.ndarray
):
    heads = heads_of(
        schema.Head("average"),
        schema.Head("norm", schema.FeatureNorm()),
        schema.Head("unused", schema.Gem()),
        embedding=("norm", "average"),
    )
    embedding = heads(features).embedding.numpy()
    weighted = (np.linalg.norm(exact, axis=-1, keepdims=True) * exact).sum((1, 2))
    expected = np.concatenate([unit(weighted), unit(exact.mean((1, 2)))], axis=1) / np.sqrt(2)
    np.testing.assert_allclose(embedding, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)


def test_heads_share_one_attention_and_have_none_if_no_head_uses_it(features: tf.Tensor):
    plain = heads_of(schema.Head("main"))
    assert plain.attention is None and plain(features).endpoints == {}
    pools = schema.DelfAttention(), schema.DelfAttention(normalized=False)
    heads = heads_of(*(schema.Head(f"head{number}", pool) for number, pool in enumerate(pools)))
    heads(features)
    assert len(heads.variables) == len(heads.attention.variables) == 7


def test_heads_return_float32_for_bfloat16_features(features: tf.Tensor):
    heads = heads_of(schema.Head("main", neck=(schema.Dense(3),), classifier=schema.Linear()))
    output = heads(tf.cast(features, tf.bfloat16))
    main = output.heads["main"]
    assert {output.embedding.dtype, main.vector.dtype, main.logits.dtype} == {tf.float32}


def test_training_flag_reaches_the_neck(features: tf.Tensor):
    heads = heads_of(schema.Head("main", neck=(schema.Dense(50, dropout=0.9),)))
    assert (heads(features).heads["main"].vector.numpy() != 0).all()
    assert (heads(features, training=True).heads["main"].vector.numpy() == 0).mean() > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"maps": (schema.SelfAttention(),)}, r"^SelfAttention is not built yet\. Built: "),
        ({"classifier": schema.TreePath()}, r"^TreePath is not built yet\. Built: "),
    ],
)
def test_unbuilt_parts_of_a_head_raise_usage_error(options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        Head(schema.Head("main", **options), NUM_CLASSES)


def test_appended_logits_need_logits():
    message = r"--logit_concat_sim appends the class logits: it needs --train_logits\."
    with pytest.raises(UsageError, match=message):
        from_flags({"train_sim": True, "logit_concat_sim": True})
    message = r"Head 'b' appends the logits of 'a'\. Heads with logits before it: none\."
    with pytest.raises(UsageError, match=message):
        heads_of(schema.Head("a"), schema.Head("b", append=("a",)))
