"""Folded graphs against the networks that they are made of, in TensorFlow and in OpenVINO."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from data_io.images import load_image
from delf_ext.config import ModelConfig
from delf_ext.features.embedders import Embedder, folded, in_openvino, network_embedder, zero_shot_embedder
from delf_ext.features.fast_runtime import TOLERANCE
from delf_ext.features.inference_graph import frozen_graph, tensorflow_function
from delf_ext.models.backbones import Backbone
from delf_ext.models.dual_head import DualHead

SIZE_PX = 32
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIZE_PX, SIZE_PX, 3), np.uint8)


def randomize(layer: tf.keras.layers.Layer) -> None:
    """Statistics and offsets as no fresh network has them: only then a wrong fold shows."""
    rng = np.random.default_rng(1)
    for variable in layer.variables:
        if any(name in variable.name for name in ("moving", "gamma", "beta")):
            size = 0.1 if "gamma" in variable.name else 1.0  # features stay small enough for the attention's softplus
            variable.assign(size * rng.uniform(0.5, 1.5, variable.shape))


@pytest.mark.parametrize(
    ("endpoint", "left"),  # v2 has one in front of each of its three units
    [("resnet_v1_50/block1", 0), ("resnet_v2_50/block1", 3), ("vgg_16/conv1", 0)],
)
def test_a_folded_trunk_computes_the_same(endpoint: str, left: int):
    trunk = Backbone(endpoint)
    trunk(PIXELS)
    randomize(trunk)
    function = tf.function(
        lambda images: trunk(images)[endpoint], input_signature=[tf.TensorSpec([None, SIZE_PX, SIZE_PX, 3], tf.uint8)]
    )
    expected, graph = function(PIXELS).numpy(), frozen_graph(function)
    kinds = Counter(node.op for node in graph.node)
    assert kinds["FusedBatchNormV3"] == left and not kinds["ReadVariableOp"] and not kinds["L2Loss"]
    np.testing.assert_allclose(
        tensorflow_function(graph)(tf.constant(PIXELS)), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
    )


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    config = ModelConfig(endpoint="resnet_v1_50/block1", image_size=SIZE_PX, num_classes=3, logit_concat_sim=True)
    network = DualHead(config).build_variables()
    randomize(network)
    return network_embedder(network, "mine")


def test_a_folded_embedder_is_equal_and_has_the_same_digest(embedder: Embedder):
    found = folded(embedder)
    assert np.linalg.norm(found.embed(PIXELS) - embedder.embed(PIXELS), axis=1).max() < TOLERANCE
    assert dataclasses.replace(found, embed=embedder.embed) == embedder
    no_graph = Embedder("other", SIZE_PX, "", lambda images: images)
    assert folded(no_graph) is no_graph


def test_openvino_embeds_what_tensorflow_does(embedder: Embedder, tmp_path: Path):
    pytest.importorskip("openvino", reason="pip install mandoo[fast]")
    fast = in_openvino(embedder, tmp_path)
    difference = np.linalg.norm(fast.embed(PIXELS) - embedder.embed(PIXELS), axis=1)
    assert difference.max() < TOLERANCE and np.linalg.norm(fast.embed(PIXELS), axis=1) == pytest.approx(1, abs=1e-5)
    assert (fast.name, fast.image_size, fast.digest) == (embedder.name, SIZE_PX, embedder.digest)  # one space: one digest
    assert fast.with_threads is not None
    np.testing.assert_allclose(fast.with_threads(1)(PIXELS[:1]), fast.embed(PIXELS[:1]), atol=TOLERANCE)
    assert [path.name for path in tmp_path.iterdir()] == [f"{embedder.digest}.pb"]


def test_a_graph_is_frozen_once(embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("openvino", reason="pip install mandoo[fast]")
    in_openvino(embedder, tmp_path)
    monkeypatch.setattr("delf_ext.features.embedders.frozen_graph", lambda graph: pytest.fail("frozen again"))
    assert in_openvino(embedder, tmp_path).embed(PIXELS).shape == (3, 2048)
    with pytest.raises(ValueError, match="other is no TensorFlow network of ours: leave --runtime out"):
        in_openvino(Embedder("other", SIZE_PX, "another digest", lambda images: images), tmp_path)


@pytest.mark.shared
def test_resnet_50_embeds_real_photographs_alike_in_both(shared: Path, tmp_path: Path):
    pytest.importorskip("openvino", reason="pip install mandoo[fast]")
    paths = sorted((shared / "data/grocery/dataset/val").rglob("*.jpg"))[::10]
    pixels = np.stack([load_image(path, 224) for path in paths])
    weights = str(shared / "pretrained/resnet_v1_50_pqf.ckpt")
    trunk, _ = zero_shot_embedder(weights, "resnet_v1_50/block4", "v1.5", "avg", 224)
    plain, fast = (model.embed(pixels) for model in (folded(trunk), in_openvino(trunk, tmp_path)))
    assert len(paths) >= 29 and (plain * fast).sum(1).min() >= 0.99999
    assert np.linalg.norm(plain - fast, axis=1).max() < TOLERANCE
