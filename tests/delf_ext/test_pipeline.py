"""Test the main path: embed, rank, re-rank and score."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.images import load_image
from data_io.records import ImageList
from data_io.stores.embeddings import EmbeddingStore
from delf_ext.config import UsageError
from delf_ext.evaluation.hits import hits_of
from delf_ext.features.embedder import Embedder, Ensemble
from delf_ext.features.query_copies import COPIES
from delf_ext.pipeline import embed, num_ranked, rank, rerank, score, truth_of
from delf_ext.recipes import schema
from delf_ext.reranking.chain import parse_chain, run_chain
from delf_ext.reranking.deadline import Deadline


@dataclass(frozen=True)
class MeanColour:
    """Model whose embedding is the mean colour."""

    image_size: int = 8
    digest: str = "mean colour"

    def embed(self, images: np.ndarray) -> np.ndarray:
        return images.astype(np.float32).mean(axis=(1, 2)) - 127.0


@pytest.fixture
def photographs(tmp_path: Path) -> ImageList:
    """Return 12 photographs of 4 colours; number 5 cannot be read."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, 3))
    paths = []
    labels = []
    for i in range(12):
        noise = rng.integers(-9, 10, (16, 16, 3))
        pixels = np.clip(colours[i % 4] + noise, 0, 255).astype(np.uint8)
        paths.append(str(tmp_path / f"{i:02}.png"))
        labels.append(i % 4)
        Image.fromarray(pixels).save(paths[-1])
    Path(paths[5]).write_bytes(b"no picture")
    return ImageList([Path(path).stem for path in paths], paths, labels)


def test_score_in_blocks_equals_score_of_the_full_ranking(photographs: ImageList) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    truth = truth_of(retrieval)
    hits = score(retrieval, truth)
    whole = hits_of(rank(retrieval, top_k=None), truth)
    assert all(np.array_equal(a, b) for a, b in zip(hits.positions, whole.positions, strict=True))
    assert np.all(hits.num_relevant >= 1)


def test_unreadable_image_is_skipped_once_and_rows_stay_aligned(photographs: ImageList) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    assert retrieval.query is retrieval.gallery and len(retrieval.gallery) == 11
    assert [Path(path).stem for path, _ in retrieval.skipped] == ["05"]
    ranking = rank(retrieval, top_k=1)
    # Each image is its own nearest neighbour.
    assert ranking.gallery_ids[ranking.rows[:, 0]].tolist() == retrieval.query.ids.tolist()


def test_separate_gallery_has_no_junk_and_is_searched_by_colour(photographs: ImageList) -> None:
    query = photographs.take([0, 1, 2, 3])
    gallery = photographs.take([4, 6, 7, 8, 9, 10, 11])
    retrieval = embed(MeanColour(), query, gallery, batch_size=4)
    truth = truth_of(retrieval)
    hits = score(retrieval, truth)
    assert truth.num_gallery == 7 and all(len(junk) == 0 for junk in truth.junk)
    # The four colours are far apart.
    assert all(positions[0] == 0 for positions in hits.positions)


def test_images_not_embedded_in_time_are_skipped_and_listed(photographs: ImageList) -> None:
    query = photographs.take([0, 1, 2, 3])
    gallery = photographs.take([4, 6, 7, 8, 9, 10, 11])
    # Each call of the clock is one second later.
    clock = iter([0.0, *np.arange(100.0)])
    deadline = Deadline(6.0, lambda: next(clock))
    retrieval = embed(MeanColour(), query, gallery, batch_size=2, deadline=deadline)
    assert len(retrieval.query) == 4 and 0 < len(retrieval.gallery) < 7
    assert len(retrieval.gallery) + len(retrieval.skipped) == 7
    assert {reason for _, reason in retrieval.skipped} == {"no time left"}
    with pytest.raises(TimeoutError, match="no time left to embed the first of 4 images"):
        embed(MeanColour(), query, gallery, deadline=Deadline(0))


# --- copies of images


def corner(images: np.ndarray) -> np.ndarray:
    """Return the colours of two corners, so that mirrored images get other embeddings."""
    corners = np.concatenate([images[:, 0, 0], images[:, 0, -1]], axis=1)
    return corners.astype(np.float32) + 1


CORNER = Embedder("corner", 8, "corner", corner)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def reference_embeddings(images: ImageList, copies: tuple[str, ...]) -> np.ndarray:
    """Return the mean embedding of each image and its copies, computed image by image."""
    pixels = np.stack([load_image(path, 8) for path in images.paths])
    views = [pixels, *(COPIES[name](pixels) for name in copies)]
    return unit(np.mean([unit(corner(view).astype(np.float64)) for view in views], axis=0))


@pytest.mark.parametrize("queries_only", [True, False])
def test_copies_are_averaged_for_queries_or_for_both_sides(
    photographs: ImageList,
    queries_only: bool,
) -> None:
    query = photographs.take([0, 1])
    gallery = photographs.take([4, 6, 7])
    copies = ("mirror", "turn90")
    test_time = schema.TestTime(copies, queries_only=queries_only)
    retrieval = embed(CORNER, query, gallery, 2, test_time)
    np.testing.assert_allclose(
        retrieval.query_features.embeddings, reference_embeddings(query, copies), atol=1e-6
    )
    gallery_copies = () if queries_only else copies
    expected = reference_embeddings(gallery, gallery_copies)
    np.testing.assert_allclose(retrieval.gallery_features.embeddings, expected, atol=1e-6)


@pytest.mark.parametrize("queries_only", [True, False])
def test_one_list_for_queries_and_gallery_is_embedded_once_per_copy(
    photographs: ImageList,
    queries_only: bool,
) -> None:
    images = photographs.take([0, 1, 4])
    copies = ("flip",)
    batch_sizes: list[int] = []

    def counting_corner(pixels: np.ndarray) -> np.ndarray:
        batch_sizes.append(len(pixels))
        return corner(pixels)

    model = Embedder("corner", 8, "corner", counting_corner)
    retrieval = embed(model, images, images, 3, schema.TestTime(copies, queries_only=queries_only))
    assert batch_sizes == [3, 3]
    np.testing.assert_allclose(
        retrieval.query_features.embeddings, reference_embeddings(images, copies), atol=1e-6
    )
    gallery_copies = () if queries_only else copies
    expected = reference_embeddings(images, gallery_copies)
    np.testing.assert_allclose(retrieval.gallery_features.embeddings, expected, atol=1e-6)


def test_copies_do_not_change_the_embedding_of_a_plain_colour(photographs: ImageList) -> None:
    query = photographs.take([0, 1])
    gallery = photographs.take([4, 6, 7])
    test_time = schema.TestTime(("mirror", "turn90"), queries_only=True)
    plain = embed(MeanColour(), query, gallery, 2)
    copied = embed(MeanColour(), query, gallery, 2, test_time)
    expected = plain.query_features.embeddings
    np.testing.assert_allclose(copied.query_features.embeddings, expected, atol=1e-6)
    assert (plain.gallery_features.embeddings == copied.gallery_features.embeddings).all()


def test_embeddings_of_copies_are_not_stored(
    photographs: ImageList,
    tmp_path: Path,
) -> None:
    query = photographs.take([0, 1])
    gallery = photographs.take([4, 6, 7])
    store = EmbeddingStore(tmp_path / "store", "corner", print)
    model = Embedder("corner", 8, "corner", corner, store=store)
    for copies in (("mirror",), ("mirror",), ()):
        retrieval = embed(model, query, gallery, 2, schema.TestTime(copies))
        expected = reference_embeddings(query, copies)
        np.testing.assert_allclose(retrieval.query_features.embeddings, expected, atol=1e-6)
        assert len(store) == 5


def test_ensemble_averages_copies_like_its_members(photographs: ImageList) -> None:
    query = photographs.take([0, 1])
    gallery = photographs.take([4, 6, 7])
    ensemble = Ensemble(
        "two", (CORNER, dataclasses.replace(CORNER, name="again")), schema.MeanEmbedding()
    )
    test_time = schema.TestTime(("mirror", "flip"))
    found, expected = (embed(model, query, gallery, 2, test_time) for model in (ensemble, CORNER))
    for side in ("query_features", "gallery_features"):
        embeddings = getattr(found, side).embeddings
        np.testing.assert_allclose(embeddings, getattr(expected, side).embeddings, atol=1e-6)


class DeadlineAfterBatches(Deadline):
    """Deadline with time for a fixed number of batches."""

    def __init__(self, num_batches: int) -> None:
        super().__init__()
        self.num_batches = num_batches

    def time_check(self, first_s: float | None = None):
        answers = iter([True] * self.num_batches)
        return lambda: next(answers, False)


@pytest.mark.parametrize(
    ("num_batches", "copies"),
    [
        # One batch of queries and one of the gallery.
        (2, ()),
        # Time is left when the copy starts, but not for its first batch.
        (3, ()),
        (4, ("mirror",)),
        (5, ("mirror",)),
        (6, ("mirror", "flip")),
    ],
)
def test_copies_not_embedded_in_time_are_not_used(
    photographs: ImageList,
    num_batches: int,
    copies: tuple[str, ...],
) -> None:
    query = photographs.take([0, 1])
    gallery = photographs.take([4, 6, 7])
    test_time = schema.TestTime(("mirror", "flip"), queries_only=True)
    retrieval = embed(CORNER, query, gallery, 4, test_time, DeadlineAfterBatches(num_batches))
    np.testing.assert_allclose(
        retrieval.query_features.embeddings, reference_embeddings(query, copies), atol=1e-6
    )
    assert retrieval.skipped == () and len(retrieval.gallery) == 3


KNOWN = "mirror, flip, turn45, turn90, turn180, turn270, turn315, and sizes such as x1.5"


@pytest.mark.parametrize(
    ("test_time", "message"),
    [
        (
            schema.TestTime(scales=(8.0, 1.0)),
            "none takes images of 8 px only: leave out the copies of 64 px (TestTime.scales, "
            "--copies, --query_copies).",
        ),
        (
            schema.TestTime(("mirror", "turn30")),
            f"unknown copy 'turn30' (--query_copies, --copies, TestTime.copies). Known: {KNOWN}.",
        ),
    ],
)
def test_unknown_or_unbuilt_test_time_is_refused_before_embedding(
    photographs: ImageList, test_time: schema.TestTime, message: str
) -> None:
    model = Embedder("none", 8, "none", lambda images: pytest.fail("embedded"))
    with pytest.raises(UsageError) as caught:
        embed(model, photographs, photographs, test_time=test_time)
    assert str(caught.value) == message


# --- re-ranking


def test_rerank_equals_run_chain_and_large_rankings_are_cut(
    photographs: ImageList,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    plain = rank(retrieval, num_ranked(retrieval))
    assert plain.rows.shape == (11, 11)
    steps = parse_chain("aqe:2,k_reciprocal:4,2")
    expected = run_chain(steps, retrieval.query_features, retrieval.gallery_features, plain)
    np.testing.assert_array_equal(rerank(retrieval, plain, steps).rows, expected.rows)
    monkeypatch.setattr("delf_ext.pipeline.PLACES_IN_MEMORY", 100)
    monkeypatch.setattr("delf_ext.pipeline.KEPT_PER_QUERY", 4)
    assert num_ranked(retrieval) == 4
