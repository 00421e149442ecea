"""Test folded graphs against the networks they are made of, in TensorFlow and OpenVINO."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data_io.images import load_image
from delf_ext.features.embedder import Embedder
from delf_ext.features.network_embedders import in_openvino, lazy_embedder, live_embedder
from delf_ext.features.runtimes.frozen_graph import freeze, frozen_graph, tensorflow_function
from delf_ext.features.runtimes.networks import TOLERANCE
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.trunks.trunk import build_trunk
from delf_ext.recipes import schema
from delf_ext.recipes.mandoo_dual import from_flags
from delf_ext.recipes.trunk_names import trunk_named
from delf_ext.runs.opening import open_model
from delf_ext.runs.sources import CheckpointSource, Runtime

SIZE_PX = 32
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIZE_PX, SIZE_PX, 3), np.uint8)


def randomize(layer: tf.keras.layers.Layer) -> None:
    """Set statistics and offsets that a new network does not have, so that a wrong fold shows."""
    rng = np.random.default_rng(1)
    for variable in layer.variables:
        if any(name in variable.name for name in ("moving", "gamma", "beta")):
            # Small scales keep features small enough for the attention's softplus.
            size = 0.1 if "gamma" in variable.name else 1.0
            variable.assign(size * rng.uniform(0.5, 1.5, variable.shape))


@pytest.mark.parametrize(
    # ResNet v2 has a batch norm in front of each of its three units.
    ("endpoint", "num_norms"),
    [
        ("resnet_v1_50/block1", 0),
        ("resnet_v2_50/block1", 3),
        ("vgg_16/conv1", 0),
        ("lite0/block2", 0),
    ],
)
def test_folded_trunk_computes_the_same_features(endpoint: str, num_norms: int):
    trunk = build_trunk(trunk_named(endpoint))
    endpoint = trunk.endpoint
    trunk(PIXELS)
    randomize(trunk)
    function = tf.function(
        lambda images: trunk(images)[endpoint],
        input_signature=[tf.TensorSpec([None, SIZE_PX, SIZE_PX, 3], tf.uint8)],
    )
    expected = function(PIXELS).numpy()
    graph = frozen_graph(function)
    frozen = freeze(function)
    kinds = Counter(node.op for node in graph.node)
    assert kinds["FusedBatchNormV3"] == num_norms
    assert not kinds["ReadVariableOp"] and not kinds["L2Loss"]
    np.testing.assert_allclose(
        tensorflow_function(frozen)(tf.constant(PIXELS)),
        expected,
        rtol=1e-4,
        atol=1e-5 * np.abs(expected).max(),
    )


def test_depthwise_convolution_with_several_outputs_for_a_channel_is_folded():
    depthwise = tf.keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)
    norm = tf.keras.layers.BatchNormalization()
    images = tf.constant(PIXELS, tf.float32)
    norm(depthwise(images))
    randomize(norm)
    signature = [tf.TensorSpec([None, SIZE_PX, SIZE_PX, 3], tf.float32)]
    function = tf.function(lambda images: norm(depthwise(images)), signature)
    frozen = freeze(function)
    assert "FusedBatchNormV3" not in {node.op for node in frozen.graph.node}
    folded = tensorflow_function(frozen)(images)
    np.testing.assert_allclose(folded, function(images), rtol=1e-4, atol=1e-3)


def test_weights_are_beside_the_graph_and_taken_by_the_function():
    kernel = tf.Variable(np.ones((3, 3, 3, 64), np.float32))
    signature = [tf.TensorSpec([None, 8, 8, 3], tf.float32)]
    frozen = freeze(tf.function(lambda images: tf.nn.conv2d(images, kernel, 1, "SAME"), signature))
    # TensorFlow copies a graph a dozen times, so it must stay small.
    assert frozen.graph.ByteSize() < 1000
    assert [value.shape for value in frozen.weights.values()] == [(3, 3, 3, 64)]
    assert frozen.with_constants().ByteSize() > kernel.numpy().nbytes
    function = tensorflow_function(frozen)
    assert frozen.weights == {}
    assert function(tf.ones([1, 8, 8, 3]))[0, 4, 4, 0] == 27


def test_functions_inside_of_a_function_are_frozen_too():
    kernel = tf.Variable(np.full((1, 1, 3, 500), 2.0, np.float32))
    inner = tf.function(lambda images: tf.nn.conv2d(images, kernel, 1, "SAME"))
    signature = [tf.TensorSpec([None, 8, 8, 3], tf.float32)]
    frozen = freeze(tf.function(lambda images: inner(images) + 1.0, signature))
    assert frozen.graph.ByteSize() < 10_000 and len(frozen.weights) == 1
    assert tensorflow_function(frozen)(tf.ones([1, 8, 8, 3]))[0, 0, 0, 0] == 7


@pytest.fixture(scope="module")
def model() -> EmbeddingModel:
    flags = {"train_logits": True, "train_sim": True, "logit_concat_sim": True}
    recipe = from_flags({**flags, "resnet_type": "resnet_v1_50/block1"})
    network = EmbeddingModel(recipe.model, 3).build_variables()
    randomize(network)
    return network


@pytest.fixture(scope="module")
def embedder(model: EmbeddingModel) -> Embedder:
    return lazy_embedder("mine", SIZE_PX, "the digest", lambda: model)


@pytest.fixture(scope="module")
def plain(model: EmbeddingModel) -> np.ndarray:
    """Return the embeddings of the network without folding."""
    return live_embedder(model, SIZE_PX, "").embed(PIXELS)


def test_folded_embedder_equals_its_network(embedder: Embedder, plain: np.ndarray):
    assert np.linalg.norm(plain, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(embedder.embed(PIXELS) - plain, axis=1).max() < TOLERANCE


def test_openvino_embeddings_equal_tensorflows(
    embedder: Embedder,
    plain: np.ndarray,
    tmp_path: Path,
):
    pytest.importorskip("openvino", reason="pip install -e '.[fast]'")
    fast = in_openvino(embedder, tmp_path)
    # The graph is frozen at the first batch.
    assert list(tmp_path.iterdir()) == []
    embeddings = fast.embed(PIXELS)
    assert np.linalg.norm(embeddings - plain, axis=1).max() < TOLERANCE
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(1, abs=1e-5)
    # Embeddings of both runtimes can be compared, so the digest is the same.
    assert (fast.name, fast.image_size, fast.digest) == (embedder.name, SIZE_PX, embedder.digest)
    np.testing.assert_allclose(fast.embed(PIXELS[:1]), embeddings[:1], atol=TOLERANCE)
    assert [path.name for path in tmp_path.iterdir()] == [f"{embedder.digest}.pb"]


def test_openvino_embeddings_of_a_trunk_of_keras_equal_tensorflows(tmp_path: Path):
    """It has swish, depthwise convolutions and squeeze-excitation.

    The whole EfficientNet-B0 and MobileNetV3 were compared once, at 64 px: they differ by 4e-7.
    """
    pytest.importorskip("openvino", reason="pip install -e '.[fast]'")
    head = schema.Head("main", schema.Average())
    trunk = schema.Trunk("efficientnetb0", "keras", "block2")
    model = EmbeddingModel(schema.Model(trunk, (head,), ("main",)), 0).build_variables()
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.shape.rank == 4:
            is_depthwise = "depthwise" in variable.name
            fan_in = np.prod(variable.shape[: 2 if is_depthwise else 3])
            variable.assign(rng.normal(0, (2 / fan_in) ** 0.5, variable.shape))
        elif "variance" in variable.name or "gamma" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        else:
            variable.assign(rng.normal(0, 0.2, variable.shape))
    pixels = PIXELS // np.array([1, 2, 4], np.uint8)[:, None, None, None]
    plain = live_embedder(model, SIZE_PX, "").embed(pixels)
    assert np.linalg.norm(plain[0] - plain[1:], axis=1).min() > 0.01
    fast = in_openvino(lazy_embedder("keras", SIZE_PX, "its digest", lambda: model), tmp_path)
    assert np.linalg.norm(fast.embed(pixels) - plain, axis=1).max() < TOLERANCE


def test_graph_is_frozen_once(
    embedder: Embedder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    pytest.importorskip("openvino", reason="pip install -e '.[fast]'")
    in_openvino(embedder, tmp_path).embed(PIXELS)
    monkeypatch.setattr(
        "delf_ext.features.runtimes.frozen_graph.frozen_graph",
        lambda graph: pytest.fail("frozen again"),
    )
    assert in_openvino(embedder, tmp_path).embed(PIXELS).shape == (3, 2048)
    other = Embedder("other", SIZE_PX, "another digest", lambda images: images)
    with pytest.raises(
        ValueError, match="other is not a TensorFlow network of this project: leave --runtime out"
    ):
        in_openvino(other, tmp_path).embed(PIXELS)


@pytest.mark.shared
def test_resnet_50_embeddings_of_real_images_agree_in_both_runtimes(shared: Path, tmp_path: Path):
    pytest.importorskip("openvino", reason="pip install -e '.[fast]'")
    paths = sorted((shared / "data/grocery/dataset/val").rglob("*.jpg"))[::30]
    pixels = np.stack([load_image(path, 224) for path in paths])
    weights = str(shared / "pretrained/resnet_v1_50_pqf.ckpt")
    source = CheckpointSource(weights, schema.Trunk(layout="v1.5"))
    trunk = open_model(source, Runtime(mixed_precision="off"), store=False)
    assert isinstance(trunk, Embedder)
    plain, fast = (model.embed(pixels) for model in (trunk, in_openvino(trunk, tmp_path)))
    assert len(paths) >= 9 and (plain * fast).sum(1).min() >= 0.99999
    assert np.linalg.norm(plain - fast, axis=1).max() < TOLERANCE
