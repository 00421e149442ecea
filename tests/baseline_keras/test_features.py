from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from baseline_keras import features
from baseline_keras.features import BaselineEmbedder, extract, load_embedder, open_run, unit_rows
from baseline_keras.network import build_embedding, build_network
from baseline_keras.run_directory import Settings, claim, save_checkpoint
from data_io.records import ImageList
from delf_ext.runs.run_directory import read_run


@pytest.fixture(scope="module")
def network() -> tf.keras.Sequential:
    tf.keras.utils.set_random_seed(1)
    return build_network(4, 16)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


def test_embeddings_are_logits_of_unit_length(network: tf.keras.Sequential, images: np.ndarray):
    embedder = BaselineEmbedder(network)
    logits = build_embedding(network)(images.astype(np.float32) / 255).numpy()
    expected = logits / np.linalg.norm(logits, axis=1, keepdims=True)
    embeddings = embedder.embed(images)
    assert embeddings.dtype == np.float32
    assert (embedder.name, embedder.image_size) == ("keras_baseline", 16)
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_unit_rows_have_unit_length(rows: list[list[float]]):
    lengths = np.linalg.norm(unit_rows(np.array(rows, np.float32)), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_unit_rows_replaces_zeros_by_a_constant_row():
    unit = unit_rows(np.array([[0.0, 0.0, 0.0, 0.0], [3.0, 0.0, 4.0, 0.0]], np.float32))
    np.testing.assert_allclose(unit, [[0.5, 0.5, 0.5, 0.5], [0.6, 0, 0.8, 0]], atol=1e-5)


def test_black_image_has_an_embedding(network: tf.keras.Sequential):
    embeddings = BaselineEmbedder(network).embed(np.zeros((1, 16, 16, 3), np.uint8))
    # All biases are still zero.
    assert embeddings.tolist() == [[0.5, 0.5, 0.5, 0.5]]


def test_batches_of_any_size_share_one_trace(network: tf.keras.Sequential, images: np.ndarray):
    embedder = BaselineEmbedder(network)
    whole = embedder.embed(images)
    parts = np.concatenate([embedder.embed(images[:3]), embedder.embed(images[3:])])
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert embedder.embed(images[:0]).shape == (0, 4)
    assert embedder._embed.experimental_get_tracing_count() == 1


def test_embed_refuses_other_shapes_and_types(network: tf.keras.Sequential, images: np.ndarray):
    for wrong in (images[0], images[:, :8], images.astype(np.float32)):
        with pytest.raises(ValueError, match=r"images must be uint8 \[B, 16, 16, 3\]. Received"):
            BaselineEmbedder(network).embed(wrong)


def test_embed_refuses_a_diverged_network(images: np.ndarray):
    network = build_network(2, 16)
    network.get_layer("logits").bias.assign([np.nan, 0.0])
    with pytest.raises(ValueError, match="not finite: its training diverged"):
        BaselineEmbedder(network).embed(images)


@pytest.fixture
def run_dir(network: tf.keras.Sequential, tmp_path: Path) -> Path:
    """Write a run after its first epoch."""
    claim(tmp_path / "run", Settings(16, 4, 1, 2), 0, "data", ("a", "b", "c", "d"), resume=False)
    save_checkpoint(tmp_path / "run", tf.train.Checkpoint(network=network), 1)
    return tmp_path / "run"


def test_loaded_embedder_has_the_same_digest(
    network: tf.keras.Sequential,
    images: np.ndarray,
    run_dir: Path,
):
    embedder = BaselineEmbedder(network)
    loaded = load_embedder(run_dir)
    assert np.array_equal(loaded.embed(images), embedder.embed(images))
    assert loaded.digest == embedder.digest and len(loaded.digest) == 12
    assert BaselineEmbedder(build_network(4, 16)).digest != embedder.digest


def test_run_without_a_finished_epoch_is_an_error(tmp_path: Path):
    claim(tmp_path, Settings(16, 4, 1, 2), 0, "data", ("a", "b", "c", "d"), resume=False)
    message = (
        f"{tmp_path}: no epoch is finished. Continue the training: "
        "python -m baseline_keras --resume"
    )
    with pytest.raises(ValueError, match=message):
        load_embedder(tmp_path)
    with pytest.raises(ValueError, match=message):
        open_run(read_run(tmp_path))


def test_open_run_loads_the_network_at_the_first_batch(
    network: tf.keras.Sequential,
    images: np.ndarray,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    loads: list[Path] = []
    original = features._load

    def load(settings: Settings, prefix: Path) -> BaselineEmbedder:
        loads.append(prefix)
        return original(settings, prefix)

    monkeypatch.setattr("baseline_keras.features._load", load)
    opened = open_run(read_run(run_dir))
    assert (opened.name, opened.image_size, loads) == ("keras_baseline run", 16, [])
    assert opened.graph is None, "the baseline must run in TensorFlow only"
    for _ in range(2):
        assert np.array_equal(opened.embed(images), BaselineEmbedder(network).embed(images))
    assert [prefix.parent for prefix in loads] == [run_dir / "checkpoint"]


def test_digest_of_an_opened_run_changes_with_the_weights(
    network: tf.keras.Sequential,
    run_dir: Path,
):
    before = open_run(read_run(run_dir)).digest
    assert open_run(read_run(run_dir)).digest == before
    other = build_network(4, 16)
    save_checkpoint(run_dir, tf.train.Checkpoint(network=other), 2)
    assert open_run(read_run(run_dir)).digest != before


def test_extract_keeps_ids_with_rows(
    network: tf.keras.Sequential,
    images: np.ndarray,
    tmp_path: Path,
):
    names = ["b", "a", "d", "c", "e"]
    for name, pixels in zip(names, images, strict=True):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    paths = np.array([str(tmp_path / f"{name}.png") for name in names])
    embedder = BaselineEmbedder(network)
    features = extract(embedder, ImageList(np.array(names), paths), batch_size=2, quiet=True)
    assert features.ids.tolist() == names and features.digest == embedder.digest
    np.testing.assert_allclose(features.embeddings, embedder.embed(images), atol=1e-5)
    assert len(extract(embedder, ImageList(np.array([]), np.array([])), quiet=True)) == 0


def test_weights_that_are_not_finite_are_refused(run_dir: Path):
    diverged = build_network(4, 16)
    kernel = diverged.variables[0]
    kernel.assign(np.full(kernel.shape, np.nan))
    save_checkpoint(run_dir, tf.train.Checkpoint(network=diverged), 3)
    with pytest.raises(
        ValueError, match=r"epoch-3: .*kernel.* numbers are NaN\. The training that"
    ):
        load_embedder(run_dir)
