"""Test copies of other sizes: really decoded, averaged or concatenated, stored, and refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_io.images import load_image
from data_io.records import GlobalFeatures, ImageList
from data_io.stores.embeddings import EmbeddingStore
from delf_ext.app.extraction import save_embeddings
from delf_ext.config import UsageError
from delf_ext.features import test_time as module
from delf_ext.features.embedder import Adapted, Embedder, Ensemble, with_sizes
from delf_ext.features.query_copies import COPIES
from delf_ext.features.reductions.projection import Projection
from delf_ext.pipeline import embed
from delf_ext.recipes.schema import Concatenate, MeanEmbedding, TestTime

TestTime.__test__ = False  # type: ignore[attr-defined]
SIZE_PX = 32
SIZES = TestTime(("mirror",), (1.5,))
JOINED = dataclasses.replace(SIZES, join="concatenation")


def corners(images: np.ndarray) -> np.ndarray:
    """Return a corner of each image and the number of its pixels, float32 [B, 4]."""
    corner = images[:, :3, :3].mean(axis=(1, 2))
    size = np.full((len(images), 1), images.shape[1])
    return np.concatenate([corner, size], axis=1).astype(np.float32)


class Network:
    """Opens the same function at any size, and counts how often."""

    def __init__(self) -> None:
        self.opened: list[int] = []

    def __call__(self, size_px: int = SIZE_PX, **options: object) -> Embedder:
        self.opened.append(size_px)
        one = Embedder("n", size_px, "n", corners, **options)  # type: ignore[arg-type]
        return with_sizes(one, self)


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{row}.jpg") for row in range(3)]
    for path in paths:
        small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
        small.resize((330, 250)).save(path)
    return ImageList(["a", "b", "c"], paths, labels=[0, 0, 1])


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def slow(images: ImageList, scales: list[float]) -> np.ndarray:
    """Decode each file at each size, and embed it and its mirror image: [scales, 2, N, D]."""
    rows = []
    for scale in scales:
        pixels = np.stack([load_image(path, round(SIZE_PX * scale)) for path in images.paths])
        rows.append([unit(corners(view)) for view in (pixels, COPIES["mirror"](pixels))])
    return np.array(rows)


def test_names_of_copies() -> None:
    assert module.copy_names(TestTime()) == []
    assert module.copy_names(TestTime(("mirror", "flip"), (2.0, 1.0, 0.5))) == [
        *("mirror", "flip"),
        *("x0.5", "x0.5-mirror", "x0.5-flip"),
        *("x2.0", "x2.0-mirror", "x2.0-flip"),
    ]
    assert module.named_copies(["x1.5", "mirror"]) == SIZES
    assert module.named_copies(["mirror", "x1.5"], "concatenation") == JOINED
    assert module.named_copies(["flip"], queries_only=True) == TestTime(("flip",), (), "mean", True)


def test_a_copy_that_is_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="copies: mirror is named twice"):
        module.named_copies(["mirror", "x1.5", "mirror"])
    # A size is a set: it counts once.
    assert module.copy_names(module.named_copies(["x1.5", "x1.5"])) == ["x1.5"]


@given(st.lists(st.floats(0.01, 100), max_size=4), st.sets(st.sampled_from(sorted(COPIES))))
def test_every_name_says_its_size_and_transformation(scales: list[float], copies: set[str]) -> None:
    names = module.copy_names(TestTime(tuple(copies), tuple(scales)))
    found = {module.split_name(name) for name in names}
    expected = {(scale, copy) for scale in {1.0, *scales} for copy in ("", *copies)}
    assert found == expected - {(1.0, "")}
    assert len(names) == len(found)


@pytest.mark.parametrize("is_one_list", [True, False])
def test_sizes_are_decoded_from_the_file_and_averaged(images: ImageList, is_one_list: bool) -> None:
    query = images if is_one_list else images.take([0, 1])
    expected = unit(slow(images, [1.0, 1.5]).mean(axis=(0, 1)))
    retrieval = embed(Network()(), query, images, 4, SIZES)
    for side in (retrieval.query_features, retrieval.gallery_features):
        np.testing.assert_allclose(side.embeddings, expected[: len(side)], atol=1e-6)


def test_sizes_are_concatenated_and_copies_of_a_size_averaged(images: ImageList) -> None:
    parts = unit(slow(images, [1.0, 1.5]).mean(axis=1))
    expected = np.concatenate(list(parts), axis=1) / np.sqrt(2)
    retrieval = embed(Network()(), images.take([0, 1]), images, 4, JOINED)
    np.testing.assert_allclose(retrieval.gallery_features.embeddings, expected, atol=1e-6)
    np.testing.assert_allclose(retrieval.query_features.embeddings, expected[:2], atol=1e-6)


def test_each_member_of_an_ensemble_applies_its_own_recipe(images: ImageList) -> None:
    network = Network()
    larger = network(48, test_time=TestTime((), (2.0,)))
    members = (network(test_time=JOINED), larger, network())
    ensemble = Ensemble("three", members, Concatenate((2.0, 1.0, 1.0)))
    assert ensemble.test_time is None
    alone = [embed(one, images, images, 4, one.test_time).query_features for one in members]
    expected = ensemble.joined([one.embeddings for one in alone])
    head = Adapted("head", ensemble, None, None)
    for model in (ensemble, head):
        found = embed(model, images, images.take([2, 1, 0]), 4, None)
        np.testing.assert_allclose(found.query_features.embeddings, expected, atol=1e-6)
        np.testing.assert_allclose(found.gallery_features.embeddings[::-1], expected, atol=1e-6)
    # The members are opened once for each size, also for queries and gallery.
    assert sorted(network.opened) == [32, 32, 48, 48, 96]


def test_copies_of_another_dimension_than_the_head_are_refused_before_embedding() -> None:
    def refuse(batch: np.ndarray) -> np.ndarray:
        raise AssertionError("an image was embedded")

    network = with_sizes(Embedder("n", SIZE_PX, "n", refuse), lambda size_px: network)
    plain = Projection(np.zeros(4), np.eye(4))
    twice = Projection(np.zeros(8), np.eye(8))
    ensemble = Ensemble("e", (Adapted("m", network, twice, JOINED), network), Concatenate())
    for model, copies, message in (
        (Adapted("h", network, plain), JOINED, "h: its head .* of 1 concatenated size.* give 2"),
        (Adapted("h", network, twice, JOINED), SIZES, "of 2 concatenated size.* give 1. Leave"),
        (ensemble, SIZES, "m: its head .* of 2 conc"),
    ):
        with pytest.raises(UsageError, match=message):
            module.copies_of(model, copies)
    # Copies of the same number of sizes fit, and a head without a projection takes any.
    three = dataclasses.replace(JOINED, scales=(1.5, 2.0))
    others = dataclasses.replace(JOINED, copies=(), scales=(2.0,))
    assert module.copies_of(Adapted("h", network, twice, JOINED), others) == [others]
    assert module.copies_of(Adapted("h", network, None, JOINED), three) == [three]


def test_copies_for_queries_only_are_those_of_each_member(images: ImageList) -> None:
    only = dataclasses.replace(SIZES, queries_only=True)
    network = Network()
    ensemble = Ensemble("two", (network(test_time=only), network()), MeanEmbedding())
    found = embed(ensemble, images, images, 4, None)
    plain = embed(network(), images, images, 4)
    np.testing.assert_allclose(
        found.gallery_features.embeddings, plain.gallery_features.embeddings, atol=1e-6
    )
    assert np.abs(found.query_features.embeddings - plain.query_features.embeddings).max() > 0.01


def test_embeddings_of_sizes_are_stored_apart(images: ImageList, tmp_path: Path) -> None:
    calls: list[int] = []

    def counted(batch: np.ndarray) -> np.ndarray:
        calls.append(batch.shape[1])
        return corners(batch)

    def opened() -> Embedder:
        store = EmbeddingStore(tmp_path / "store", "n", print)
        one = Embedder("n", SIZE_PX, "n", counted, store=store)
        return with_sizes(one, lambda size_px: dataclasses.replace(one, image_size=size_px))

    first = embed(opened(), images, images, 4, SIZES)
    assert calls == [32, 32, 48, 48]
    again = embed(opened(), images, images, 4, SIZES)
    assert calls == [32, 32, 48, 48]
    np.testing.assert_array_equal(first.query_features.embeddings, again.query_features.embeddings)
    # `extract` writes them, and another store reads them.
    save_embeddings(dataclasses.replace(opened(), store=None), images, tmp_path, test_time=JOINED)
    extracted = np.load(tmp_path / "features.npz")["embeddings"]
    joined = embed(opened(), images, images, 4, JOINED)
    np.testing.assert_allclose(extracted, joined.query_features.embeddings, atol=1e-6)
    store = EmbeddingStore(tmp_path / "none", "n", print, tmp_path)
    assert [len(store), len(store.of_copy("x1.5")), len(store.of_copy("x1.5-mirror"))] == [3, 3, 3]


def features(values: list[float], failed: bool = False) -> GlobalFeatures:
    return GlobalFeatures(["a"], [values], "n", [failed])


def test_a_failed_size_fails_the_concatenation_but_not_the_mean() -> None:
    parts = {"": features([1, 0]), "x1.5": features([0, 0], failed=True)}
    only_sizes = TestTime((), (1.5,))
    assert module.join_copies(parts, only_sizes).embeddings.tolist() == [[1, 0]]
    joined = module.join_copies(parts, dataclasses.replace(only_sizes, join="concatenation"))
    assert joined.failed.tolist() == [True]
    assert not joined.embeddings.any()


def test_a_size_without_time_is_left_out_of_a_mean_only() -> None:
    parts = {"": features([1, 0]), "mirror": features([0, 1])}
    np.testing.assert_allclose(module.join_copies(parts, SIZES).embeddings, [[0.5**0.5] * 2])
    with pytest.raises(TimeoutError, match=r"no time left to embed the images at 1\.5 times"):
        module.join_copies(parts, JOINED)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (200.0, "copies of 200 times the image size of 32 px (TestTime.scales, --copies, "
         "--query_copies) would have 6400 px: they must have 32 to 4096 px."),
        (0.5, "copies of 0.5 times the image size of 32 px (TestTime.scales, --copies, "
         "--query_copies) would have 16 px: they must have 32 to 4096 px."),
        (2.0, "fixed takes images of 32 px only: leave out the copies of 64 px (TestTime.scales, "
         "--copies, --query_copies)."),
    ],
)  # fmt: skip
def test_sizes_that_a_model_cannot_embed_are_refused_first(
    images: ImageList, scale: float, message: str
) -> None:
    fixed = Embedder("fixed", SIZE_PX, "n", lambda batch: pytest.fail("embedded"))
    model = Ensemble("two", (Network()(), fixed), Concatenate())
    with pytest.raises(UsageError) as caught:
        embed(model, images, images, 4, TestTime((), (scale,)))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"join": "concatenation"}, "concatenates the embeddings of several sizes: name another"),
        ({"scales": (1.0,), "join": "concatenation"}, "name another size in scales"),
        ({"scales": (2.0,), "join": "concatenation", "queries_only": True}, "would be longer"),
        ({"scales": (0.0,)}, "TestTime.scales.0 must be above 0"),
    ],
)
def test_records_that_cannot_work_are_errors(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TestTime(**options)


@pytest.mark.parametrize("name", ["x", "xl", "1.5", "x1.5-mirror", "xnan", "x-1"])
def test_names_that_are_no_copy_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        module.named_copies([name])
