"""The heads against NumPy twins, and gradients that prove which loss reaches which part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import LossConfig, ModelConfig
from delf_ext.losses.total import named_losses
from delf_ext.models.attention import Attention
from delf_ext.models.dual_head import DualHead, Heads

NUM_CLASSES = 5
LABELS = tf.constant([0, 0, 1, 2])


@pytest.fixture(scope="module")
def features() -> tf.Tensor:
    """Like the end of a trunk: never negative."""
    return tf.constant(np.maximum(np.random.default_rng(0).normal(size=(4, 3, 3, 16)), 0), tf.float32)


def config(**options: Any) -> ModelConfig:
    return ModelConfig(image_size=64, num_classes=NUM_CLASSES, **options)


def kernels(layer: tf.keras.layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    return layer.kernel.numpy().astype(np.float64), layer.bias.numpy().astype(np.float64)


def similarity_twin(heads: Heads, features: np.ndarray, endpoints: dict[str, tf.Tensor], options: dict[str, bool]) -> np.ndarray:
    vector = (endpoints["attention"].numpy().astype(np.float64) * features).sum((1, 2))
    if options.get("skipcon_attn"):
        vector = vector + features.sum((1, 2))
    if options.get("logit_concat_sim"):
        vector = np.concatenate([vector, endpoints["logits"]], axis=1)
    (kernel1, bias1), (kernel2, bias2) = kernels(heads.similarity.hidden), kernels(heads.similarity.output_layer)
    embedding = np.maximum(vector @ kernel1 + bias1, 0) @ kernel2 + bias2
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "options",
    [{}, {"skipcon_attn": True}, {"logit_concat_sim": True}, {"skipcon_attn": True, "logit_concat_sim": True}],
    ids=lambda options: "+".join(options) or "plain",
)
def test_the_similarity_branch_is_its_numpy_twin(features: tf.Tensor, options: dict[str, bool]):
    heads = Heads(config(**options))
    embedding, endpoints = heads(features)
    expected = similarity_twin(heads, features.numpy().astype(np.float64), endpoints, options)
    np.testing.assert_allclose(embedding, expected, atol=2e-6)
    assert embedding.shape == (4, 2048) and heads.similarity.hidden.kernel.shape[1] == 1024
    assert heads.similarity.hidden.kernel.shape[0] == 16 + (NUM_CLASSES if options.get("logit_concat_sim") else 0)


def test_the_logits_are_their_numpy_twin(features: tf.Tensor):
    heads = Heads(config())
    _, endpoints = heads(features)
    exact = features.numpy().astype(np.float64)
    unit = exact / np.linalg.norm(exact, axis=-1, keepdims=True)
    kernel, bias = kernels(heads.logits.classifier)
    expected = (endpoints["attention"].numpy() * unit).mean((1, 2)) @ kernel + bias
    assert expected.shape == (4, NUM_CLASSES)
    np.testing.assert_allclose(endpoints["logits"], expected, atol=1e-6)


def test_attention_is_its_numpy_twin_and_positive(features: tf.Tensor):
    attention = Attention()
    attention(features, training=True)
    found = attention(features)
    hidden = features.numpy().astype(np.float64) @ attention.hidden.kernel.numpy()[0, 0]
    norm = attention.norm
    scaled = (hidden - norm.moving_mean) / np.sqrt(norm.moving_variance.numpy() + 1e-5) * norm.gamma + norm.beta
    score = np.maximum(scaled, 0) @ attention.score.kernel.numpy()[0, 0] + attention.score.bias
    np.testing.assert_allclose(found, np.log1p(np.exp(score)), rtol=1e-4)
    assert found.shape == (4, 3, 3, 1) and float(tf.reduce_min(found)) > 0


def test_without_a_similarity_head_the_embedding_is_the_attention_weighted_sum(features: tf.Tensor):
    embedding, endpoints = Heads(ModelConfig(num_classes=0, similarity_head=False))(features)
    pooled = (endpoints["attention"].numpy() * features.numpy()).sum((1, 2))
    np.testing.assert_allclose(embedding, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=1e-6)
    assert set(endpoints) == {"attention", "pooled", "embedding"}


def test_appended_logits_need_logits():
    with pytest.raises(ValueError, match=r"--logit_concat_sim appends the class logits: it needs --train_logits\."):
        Heads(ModelConfig(num_classes=0, logit_concat_sim=True))


@pytest.fixture(scope="module", params=[True, False], ids=["stop_gradient_sim", "joint"])
def network(request: pytest.FixtureRequest) -> DualHead:
    """The real trunk, with every way from the trunk into the similarity branch open."""
    tf.keras.utils.set_random_seed(0)
    options = config(stop_gradient_sim=request.param, skipcon_attn=True, logit_concat_sim=True)
    return DualHead(options).build_variables()


@pytest.fixture(scope="module")
def photographs() -> tf.Tensor:
    return tf.constant(np.random.default_rng(2).integers(0, 256, (4, 64, 64, 3)), tf.float32)


def test_embeddings_are_of_unit_length_and_endpoints_named(network: DualHead, photographs: tf.Tensor):
    embedding, endpoints = network(photographs)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
    trunk = {f"resnet_v1_50/block{block}" for block in (1, 2, 3, 4)}
    assert {"attention", "pooled", "logits", "embedding"} | trunk <= set(endpoints)
    assert endpoints["embedding"] is embedding
    assert endpoints["attention"].shape == (4, 2, 2, 1) and endpoints["logits"].shape == (4, NUM_CLASSES)
    again, _ = network.heads(endpoints["resnet_v1_50/block4"])
    np.testing.assert_allclose(embedding, again, atol=1e-6)


def largest_gradients(network: DualHead, photographs: tf.Tensor, losses: LossConfig) -> dict[str, dict[str, float]]:
    """Loss -> part of the network -> largest absolute gradient, 0 where there is none at all."""
    parts = {
        "trunk": network.backbone.trainable_variables,
        "attention": network.heads.attention.trainable_variables,
        "logits": network.heads.logits.trainable_variables,
        "similarity": network.heads.similarity.trainable_variables,
    }
    with tf.GradientTape(persistent=True) as tape:
        _, endpoints = network(photographs, training=True)
        values = named_losses(endpoints, LABELS, losses)
    return {loss: {part: _largest(tape.gradient(value, parts[part])) for part in parts} for loss, value in values.items()}


def _largest(gradients: list[tf.Tensor | None]) -> float:
    return max((float(tf.reduce_max(tf.abs(gradient))) for gradient in gradients if gradient is not None), default=0.0)


def test_gradients_prove_what_each_loss_trains(network: DualHead, photographs: tf.Tensor):
    flags = dict.fromkeys(("train_logits", "train_sim", "train_sim_dist", "train_max_neg", "train_triplet"), True)
    largest = largest_gradients(network, photographs, LossConfig(**flags))
    assert set(largest) == {"logits", "sim", "sim_dist", "max_neg", "triplet"}
    of_logits = largest.pop("logits")
    assert min(of_logits[part] for part in ("trunk", "attention", "logits")) > 1e-8 and of_logits["similarity"] == 0
    for loss, parts in largest.items():
        assert parts["similarity"] > 1e-8, loss
        upstream = [parts[part] for part in ("trunk", "attention", "logits")]
        if network.config.stop_gradient_sim:
            assert upstream == [0, 0, 0], loss
        else:
            assert min(upstream) > 1e-8, loss


def test_the_configuration_reaches_the_trunk():
    options = ModelConfig(
        endpoint="resnet_v1_50/block1",
        layout="v1.5",
        image_size=64,
        weight_decay=0.25,
        freeze_batch_norm=True,
        batch_norm_decay=0.5,
    )
    trunk = DualHead(options).backbone
    assert (trunk.endpoint, trunk.layout.padded_pool, trunk.weight_decay) == ("resnet_v1_50/block1", True, 0.25)
    assert (trunk.freeze_batch_norm, trunk.batch_norm_decay) == (True, 0.5)
