"""Test models with a head: copies are averaged first, stores keep the embeddings of the base."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.records import ImageList
from data_io.stores.embeddings import EmbeddingStore
from delf_ext.app.extraction import save_embeddings
from delf_ext.features.embedder import Adapted, Embedder, Ensemble
from delf_ext.features.extraction import extract_global
from delf_ext.features.reductions.projection import Projection
from delf_ext.pipeline import embed
from delf_ext.recipes import schema

SIZE_PX = 8
HALVES = (slice(0, 4), slice(4, 8))


def halves(images: np.ndarray) -> np.ndarray:
    """Embed an image as the mean colours of its left and its right half, [B, 6]."""
    parts = [images[:, :, half].mean(axis=(1, 2)) for half in HALVES]
    return np.concatenate(parts, axis=1).astype(np.float32) - 100.0


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    """Write five images; the last one is gray, so that its embedding is zero."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, SIZE_PX, SIZE_PX, 3), np.uint8)
    pixels[4] = 100
    paths = [str(tmp_path / f"{number}.png") for number in range(5)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return ImageList(np.array(list("abcde")), np.array(paths), np.array([0, 0, 1, 1, 1]))


def base(**options: object) -> Embedder:
    return Embedder("halves", SIZE_PX, "halves", halves, **options)  # type: ignore[arg-type]


def head(width: int = 6) -> Projection:
    rng = np.random.default_rng(1)
    return Projection(rng.normal(0, 0.1, width), rng.standard_normal((width, 3)))


def adapted(model: Embedder | Ensemble, width: int = 6, copies: tuple[str, ...] = ()) -> Adapted:
    return Adapted("head", model, head(width), schema.TestTime(copies))


def test_copies_are_averaged_before_the_projection(images: ImageList) -> None:
    model = adapted(base(), copies=("mirror",))
    plain, _ = extract_global(base(), images)
    left_right = plain.embeddings[:4]
    mirrored = np.concatenate([left_right[:, 3:], left_right[:, :3]], axis=1)
    mean = left_right + mirrored
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    expected = head()(mean)
    features, kept = extract_global(model, images)
    np.testing.assert_allclose(features.embeddings[:4], expected, atol=1e-5)
    assert features.digest == model.digest != base().digest
    assert features.failed.tolist() == [False] * 4 + [True] and len(kept) == 5
    # The main path gives the same, for one list and for two.
    for gallery in (images, images.take(np.arange(5))):
        retrieval = embed(model, images, gallery, test_time=model.test_time)
        for side in (retrieval.query_features, retrieval.gallery_features):
            np.testing.assert_allclose(side.embeddings[:4], expected, atol=1e-5)
            assert side.digest == model.digest and side.failed.tolist() == features.failed.tolist()


def test_heads_of_one_base_share_its_stored_embeddings(images: ImageList, tmp_path: Path) -> None:
    calls: list[int] = []

    def counted(batch: np.ndarray) -> np.ndarray:
        calls.append(len(batch))
        return halves(batch)

    def opened() -> Embedder:
        store = EmbeddingStore(tmp_path / "store", "halves", print)
        return dataclasses.replace(base(), embed=counted, store=store)

    extract_global(adapted(opened(), copies=("mirror",)), images)
    first = len(calls)
    good = images.take(np.arange(4))
    extract_global(adapted(opened(), copies=("mirror",)), good)
    extract_global(dataclasses.replace(adapted(opened()), projection=None), good)
    assert first > 0 and len(calls) == first


def test_ensemble_is_joined_before_the_projection(images: ImageList) -> None:
    ensemble = Ensemble("both", (base(), base()), schema.Concatenate((2.0, 1.0)))
    joined, _ = extract_global(ensemble, images)
    features, _ = extract_global(adapted(ensemble, 12), images)
    np.testing.assert_allclose(features.embeddings[:4], head(12)(joined.embeddings[:4]), atol=1e-6)
    assert features.failed.tolist() == joined.failed.tolist()


def test_embedding_at_the_mean_has_failed(images: ImageList) -> None:
    plain, _ = extract_global(base(), images)
    at_first = Projection(plain.embeddings[0], np.eye(6))
    features, _ = extract_global(Adapted("head", base(), at_first), images)
    assert features.failed.tolist() == [True, False, False, False, True]


def test_extract_in_shards_writes_the_same_and_parts_of_the_base(
    images: ImageList, tmp_path: Path
) -> None:
    model = adapted(base(), copies=("mirror",))
    for index in (2, 1):
        save_embeddings(model, images, tmp_path / "shards", 4, (index, 2))
    save_embeddings(model, images, tmp_path / "whole", 4)
    files = [(tmp_path / name / "features.npz").read_bytes() for name in ("shards", "whole")]
    assert files[0] == files[1]
    # The base, and so another head, finds the embeddings in this folder.
    for parts in (EmbeddingStore(tmp_path / "none", "halves", print, tmp_path / "whole"),):
        assert len(parts) == 4 and len(parts.of_copy("mirror")) == 4


@pytest.mark.parametrize("is_one_list", [True, False])
def test_members_of_an_ensemble_average_their_own_copies(
    images: ImageList, is_one_list: bool
) -> None:
    with_copies, without = adapted(base(), copies=("mirror",)), base()
    ensemble = Ensemble("both", (with_copies, without), schema.Concatenate((1.0, 2.0)))
    gallery = images if is_one_list else images.take(np.arange(5))
    retrieval = embed(ensemble, images, gallery, test_time=ensemble.test_time)
    parts = [extract_global(member, images)[0] for member in (with_copies, without)]
    expected = ensemble.joined([part.embeddings for part in parts])
    expected[4] = 0
    joined, _ = extract_global(ensemble, images)
    assert ensemble.test_time is None
    for side in (joined, retrieval.query_features, retrieval.gallery_features):
        np.testing.assert_allclose(side.embeddings, expected, atol=1e-6)
        assert side.digest == ensemble.digest and side.failed.tolist() == [False] * 4 + [True]
    # Copies that the user names go to every member.
    turned = embed(ensemble, images, gallery, test_time=schema.TestTime(("turn90",)))
    one = embed(without, images, gallery, test_time=schema.TestTime(("turn90",)))
    found = turned.query_features.embeddings[:4, 3:] / (2 / np.sqrt(5))
    np.testing.assert_allclose(found, one.query_features.embeddings[:4], atol=1e-6)
