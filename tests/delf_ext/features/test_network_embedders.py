"""Test embedders of models in training and of models that are loaded late; digests of weights."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.features.embedder import Embedder
from delf_ext.features.network_embedders import (
    OpenedLater,
    graph_file,
    lazy_embedder,
    live_embedder,
    variables_digest,
)
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.recipes import schema
from delf_ext.runs import runtimes
from delf_ext.runs.sources import Runtime

SIZE_PX = 32
TRUNK = schema.Trunk(end_point="block1/unit_1/bottleneck_v1")
HEAD = schema.Head("main", neck=(schema.Dense(8),), classifier=schema.Linear())


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, SIZE_PX, SIZE_PX, 3), np.uint8)


@pytest.fixture
def model() -> EmbeddingModel:
    tf.keras.utils.set_random_seed(0)
    return EmbeddingModel(schema.Model(TRUNK, (HEAD,)), 3).build_variables()


def test_variables_digest_changes_if_one_number_changes(model: EmbeddingModel):
    trunk = model.trunk
    before = variables_digest(trunk)
    assert variables_digest(trunk) == before and len(before) == 12
    for variable in (trunk.variables[0], trunk.variables[-1]):
        value = variable.numpy()
        changed = value.copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
        variable.assign(changed)
        assert variables_digest(trunk) != before
        variable.assign(value)
    assert variables_digest(trunk) == before


def test_live_embedder_uses_the_current_weights(
    model: EmbeddingModel,
    pixels: np.ndarray,
):
    embedder = live_embedder(model, SIZE_PX, "validation")
    first = embedder.embed(pixels)
    np.testing.assert_allclose(first, model(pixels).embedding, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    model.heads.by_name["main"].neck[0].linear.bias.assign(np.arange(8.0) * 1e3)
    second = embedder.embed(pixels)
    np.testing.assert_allclose(second, model(pixels).embedding, atol=1e-5)
    assert np.abs(first - second).max() > 1e-3
    assert (embedder.name, embedder.image_size) == ("validation", SIZE_PX)
    assert embedder.digest == "" and embedder.store is None


def test_live_embedder_does_not_change_batch_norm_statistics(
    model: EmbeddingModel,
    pixels: np.ndarray,
):
    before = [variable.numpy() for variable in model.variables]
    live_embedder(model, SIZE_PX, "validation").embed(pixels)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_lazy_embedder_loads_its_model_once_at_the_first_batch(
    model: EmbeddingModel,
    pixels: np.ndarray,
):
    loaded: list[int] = []

    def load() -> EmbeddingModel:
        loaded.append(1)
        return model

    embedder = lazy_embedder("mine", SIZE_PX, "the digest", load)
    assert (embedder.name, embedder.image_size, embedder.digest) == ("mine", SIZE_PX, "the digest")
    assert loaded == []
    found = [embedder.embed(pixels) for _ in range(2)]
    assert loaded == [1]
    np.testing.assert_allclose(found[0], model(pixels).embedding, atol=1e-5)
    np.testing.assert_array_equal(found[0], found[1])
    embedder.release()
    assert loaded == [1]
    np.testing.assert_array_equal(embedder.embed(pixels), found[0])
    assert loaded == [1, 1]


def test_network_is_freed_after_a_release_and_opened_again():
    class Network:
        def __call__(self, images: np.ndarray) -> np.ndarray:
            return images

    opened: list[weakref.ref] = []

    def open_network() -> Network:
        network = Network()
        opened.append(weakref.ref(network))
        return network

    later = OpenedLater(open_network)
    later.release()
    assert opened == []
    later(np.zeros(1))
    assert opened[0]() is not None
    later.release()
    assert len(opened) == 1 and opened[0]() is None
    later(np.zeros(1))
    assert len(opened) == 2


def test_lazy_embedder_takes_batches_of_any_length(model: EmbeddingModel, pixels: np.ndarray):
    embedder = lazy_embedder("mine", SIZE_PX, "", lambda: model)
    np.testing.assert_allclose(embedder.embed(pixels[:1]), embedder.embed(pixels)[:1], atol=1e-5)


def test_graph_file_is_written_once_and_named_by_the_digest(
    model: EmbeddingModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    embedder = lazy_embedder("mine", SIZE_PX, "digest-1", lambda: model)
    path = graph_file(embedder, tmp_path)
    assert path == tmp_path / "digest-1.pb" and path.stat().st_size > 1000
    name = "delf_ext.features.runtimes.frozen_graph.frozen_graph"
    monkeypatch.setattr(name, lambda graph: pytest.fail("frozen again"))
    assert graph_file(embedder, tmp_path) == path
    other = Embedder("other", SIZE_PX, "digest-2", lambda images: images)
    message = r"^other is not a TensorFlow network of this project: leave --runtime out\.$"
    with pytest.raises(ValueError, match=message):
        graph_file(other, tmp_path)


@pytest.mark.parametrize("runtime", ["tensorflow", "openvino"])
def test_network_is_opened_at_other_sizes_and_released_with_them(
    model: EmbeddingModel, runtime: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.setattr(runtimes, "cache_folder", lambda: tmp_path)
    loads: list[int] = []

    def load() -> EmbeddingModel:
        loads.append(1)
        return model

    plain = lazy_embedder("net", SIZE_PX, "digest", load)
    embedder = runtimes.in_runtime(plain, Runtime(runtime, "off"), None)
    assert embedder.at_size is not None and not loads
    larger = embedder.at_size(48)
    assert embedder.at_size(48) is larger
    assert (larger.image_size, larger.digest) == (48, "digest-48px")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 48, 48, 3), np.uint8)
    np.testing.assert_allclose(larger.embed(pixels), model(pixels).embedding, atol=1e-4)
    embedder.release()
    np.testing.assert_allclose(larger.embed(pixels), model(pixels).embedding, atol=1e-4)
    # OpenVINO reads its graph from the file again.
    assert len(loads) == (2 if runtime == "tensorflow" else 1)
