"""Test class logits: one pass yields them with the embeddings, ensembles and copies are joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_io.datasets import list_images
from data_io.progress import quiet
from data_io.records import ImageList
from data_io.stores.embeddings import EmbeddingStore
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder, Ensemble
from delf_ext.features.extraction import extract_global
from delf_ext.features.logits import Logits, has_logits, log_softmax, logits_of_images, one_pass
from delf_ext.features.network_embedders import LogitsOf, lazy_embedder, live_embedder
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.recipes import schema

SIZE_PX = 32
NAMES = ("a", "b", "c")


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    rng = np.random.default_rng(0)
    for number in range(5):
        pixels = rng.integers(0, 256, (SIZE_PX, SIZE_PX, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return list_images(tmp_path)


class Counting:
    """A network: mean colour as embedding, and logits; it counts the images that it gets."""

    def __init__(self, names: tuple[str, ...] = NAMES, factor: float = 1.0) -> None:
        self.names = names
        self.factor = factor
        self.num_batches = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.num_batches += 1
        colour = images.mean(axis=(1, 2)).astype(np.float32) + 1
        left = images[:, :, 0].mean(axis=1)[:, : len(self.names)]
        unit = colour / np.linalg.norm(colour, axis=1, keepdims=True)
        return np.concatenate([unit, self.factor * left], axis=1).astype(np.float32)


def network(rows: Callable[[np.ndarray], np.ndarray], names: tuple[str, ...] = NAMES) -> Embedder:
    longer = Embedder("net", SIZE_PX, "v1-logits", rows, logit_names=names)
    embed = dataclasses.replace(longer, digest="v1", logit_names=(), with_logits=longer)
    return dataclasses.replace(embed, embed=lambda images: rows(images)[:, :3])


def test_one_pass_yields_embeddings_and_logits(images: ImageList) -> None:
    rows = Counting()
    plain = extract_global(network(rows), images, 4)[0]
    rows.num_batches = 0
    model = one_pass(network(rows))
    logits = logits_of_images(model, images, batch_size=4)
    features = extract_global(model, images, 4)[0]
    assert rows.num_batches == 2
    np.testing.assert_allclose(features.embeddings, plain.embeddings, atol=1e-6)
    assert features.digest == plain.digest
    assert logits.class_names == NAMES and logits.mean.shape == (5, 3)
    assert np.abs(logits.mean).max() > 1, "logits must not be scaled to unit length"


def test_logits_are_stored_beside_the_embeddings(images: ImageList, tmp_path: Path) -> None:
    rows = Counting()
    store = tmp_path / "store"

    def opened() -> Embedder:
        return dataclasses.replace(network(rows), store=EmbeddingStore(store, "v1", quiet))

    first = logits_of_images(one_pass(opened()), images, schema.TestTime(("mirror",)), 4)
    num_batches = rows.num_batches
    second = logits_of_images(one_pass(opened()), images, schema.TestTime(("mirror",)), 4)
    extract_global(opened(), images, 4)
    assert rows.num_batches == num_batches == 4
    np.testing.assert_array_equal(first.mean, second.mean)
    plain = logits_of_images(one_pass(network(Counting())), images, batch_size=4)
    right = logits_of_images(
        one_pass(network(lambda x: Counting()(x[:, :, ::-1]))), images, batch_size=4
    )
    np.testing.assert_allclose(first.mean, (plain.mean + right.mean) / 2, rtol=1e-6)


def test_members_are_aligned_by_class_and_averaged(images: ImageList) -> None:
    turned = network(lambda x: Counting(factor=2.0)(x)[:, [0, 1, 2, 5, 4, 3]], ("c", "b", "a"))
    model = Ensemble("two", (network(Counting()), turned), schema.Concatenate())
    one = logits_of_images(one_pass(network(Counting())), images).mean
    logits = logits_of_images(one_pass(model), images)
    np.testing.assert_allclose(logits.mean, 1.5 * one, rtol=1e-5)
    expected = (np.exp(log_softmax(one)) + np.exp(log_softmax(2 * one))) / 2
    np.testing.assert_allclose(np.exp(logits.log_probabilities), expected, atol=1e-5)


def test_members_of_other_classes_are_refused(images: ImageList) -> None:
    other = network(Counting(), ("a", "b", "d"))
    model = Ensemble("two", (network(Counting()), other), schema.Concatenate())
    with pytest.raises(UsageError, match="two: its members were trained on different classes"):
        logits_of_images(one_pass(model), images)


def test_an_unreadable_image_and_a_failed_one_have_no_logits(
    images: ImageList, tmp_path: Path
) -> None:
    Path(images.paths[1]).write_bytes(b"no image")

    def rows(pixels: np.ndarray) -> np.ndarray:
        values = Counting()(pixels)
        values[0, -1] = np.inf
        return values

    logits = logits_of_images(one_pass(network(rows)), images, batch_size=8)
    assert np.isnan(logits.mean).all(axis=1).tolist() == [True, True, False, False, False]


def test_model_without_classifier_has_no_logits() -> None:
    plain = dataclasses.replace(network(Counting()), with_logits=None)
    assert not has_logits(plain) and one_pass(plain) is plain
    assert has_logits(network(Counting()))


def test_logits_of_a_network_have_the_factor_of_its_loss(tmp_path: Path) -> None:
    tf.keras.utils.set_random_seed(0)
    head = schema.Head("main", neck=(schema.Dense(8),), classifier=schema.Cosine())
    trunk = schema.Trunk(end_point="block1/unit_1/bottleneck_v1")
    model = EmbeddingModel(schema.Model(trunk, (head,)), 3).build_variables()
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE_PX, SIZE_PX, 3), np.uint8)
    output = model(pixels, training=False)
    expected = np.concatenate([output.embedding, 20 * output.heads["main"].logits], axis=1)
    logits_of = LogitsOf("main", 20.0, NAMES)
    for embedder in (
        live_embedder(model, SIZE_PX, "live", logits_of),
        lazy_embedder("lazy", SIZE_PX, "v1", lambda: model, logits_of),
    ):
        longer = embedder.with_logits
        assert longer is not None and longer.logit_names == NAMES
        np.testing.assert_allclose(longer.embed(pixels), expected, atol=2e-4)
        assert embedder.embed(pixels).shape == (2, 8)


def test_mean_of_logits_takes_rows() -> None:
    logits = Logits(NAMES, (np.arange(6.0).reshape(2, 3),))
    np.testing.assert_array_equal(logits.take(np.array([1])).mean, [[3, 4, 5]])
