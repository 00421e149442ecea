"""The main path: block-wise scoring equals scoring the whole ranking, skipped images leave ids and rows in step."""

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
from delf_ext.evaluation.metrics import hits_of
from delf_ext.features.embedder import Embedder, Ensemble
from delf_ext.features.query_copies import COPIES
from delf_ext.pipeline import embed, rank, rerank, score, truth_of, width_in_memory
from delf_ext.recipes import schema
from delf_ext.reranking.chain import parse_chain, run_chain
from delf_ext.reranking.deadline import Deadline


@dataclass(frozen=True)
class MeanColour:
    """A real, if modest, model."""

    image_size: int = 8
    digest: str = "mean colour"

    def embed(self, images: np.ndarray) -> np.ndarray:
        return images.astype(np.float32).mean(axis=(1, 2)) - 127.0


@pytest.fixture
def photographs(tmp_path: Path) -> ImageList:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, 3))
    paths, labels = [], []
    for i in range(12):
        pixels = np.clip(colours[i % 4] + rng.integers(-9, 10, (16, 16, 3)), 0, 255).astype(
            np.uint8
        )
        paths.append(str(tmp_path / f"{i:02}.png"))
        labels.append(i % 4)
        Image.fromarray(pixels).save(paths[-1])
    Path(paths[5]).write_bytes(b"no picture")
    return ImageList([Path(path).stem for path in paths], paths, labels)


def test_blockwise_score_equals_the_whole_ranking(photographs: ImageList) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    truth = truth_of(retrieval)
    hits = score(retrieval, truth)
    whole = hits_of(rank(retrieval, top_k=None), truth)
    assert all(np.array_equal(a, b) for a, b in zip(hits.positions, whole.positions, strict=True))
    assert np.all(hits.num_relevant >= 1)


def test_a_bad_photograph_is_skipped_once_and_rows_stay_in_step(photographs: ImageList) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    assert retrieval.query is retrieval.gallery and len(retrieval.gallery) == 11
    assert [Path(path).stem for path, _ in retrieval.skipped] == ["05"]
    ranking = rank(retrieval, top_k=1)
    assert (
        ranking.gallery_ids[ranking.rows[:, 0]].tolist() == retrieval.query.ids.tolist()
    )  # each is its own nearest


def test_other_queries_than_the_gallery(photographs: ImageList) -> None:
    query, gallery = photographs.take([0, 1, 2, 3]), photographs.take([4, 6, 7, 8, 9, 10, 11])
    retrieval = embed(MeanColour(), query, gallery, batch_size=4)
    truth = truth_of(retrieval)
    hits = score(retrieval, truth)
    assert truth.num_gallery == 7 and all(len(junk) == 0 for junk in truth.junk)
    assert all(positions[0] == 0 for positions in hits.positions)  # the colours are far apart


def test_what_time_does_not_reach_is_skipped_and_listed(photographs: ImageList) -> None:
    query, gallery = photographs.take([0, 1, 2, 3]), photographs.take([4, 6, 7, 8, 9, 10, 11])
    clock = iter([0.0, *np.arange(100.0)])  # each look at the clock is a second later
    retrieval = embed(
        MeanColour(), query, gallery, batch_size=2, deadline=Deadline(6.0, lambda: next(clock))
    )
    assert len(retrieval.query) == 4 and 0 < len(retrieval.gallery) < 7
    assert len(retrieval.gallery) + len(retrieval.skipped) == 7 and {
        why for _, why in retrieval.skipped
    } == {"no time left"}
    with pytest.raises(TimeoutError, match="no time left to embed the first of 4 images"):
        embed(MeanColour(), query, gallery, deadline=Deadline(0))


# --- copies of photographs


def corner(images: np.ndarray) -> np.ndarray:
    """The colours of two corners: a model that sees where a photograph's pixels are."""
    corners = np.concatenate([images[:, 0, 0], images[:, 0, -1]], axis=1)
    return corners.astype(np.float32) + 1


CORNER = Embedder("corner", 8, "corner", corner)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def twin(images: ImageList, copies: tuple[str, ...]) -> np.ndarray:
    """Mean of the unit vectors of the photograph and its copies, each changed by itself."""
    pixels = np.stack([load_image(path, 8) for path in images.paths])
    views = [pixels, *(COPIES[name](pixels) for name in copies)]
    return unit(np.mean([unit(corner(view).astype(np.float64)) for view in views], axis=0))


@pytest.mark.parametrize("queries_only", [True, False])
def test_copies_are_averaged_on_one_side_or_on_both(
    photographs: ImageList,
    queries_only: bool,
) -> None:
    query, gallery = photographs.take([0, 1]), photographs.take([4, 6, 7])
    copies = ("mirror", "turn90")
    test_time = schema.TestTime(copies, queries_only=queries_only)
    found = embed(CORNER, query, gallery, 2, test_time)
    np.testing.assert_allclose(found.query_features.embeddings, twin(query, copies), atol=1e-6)
    of_gallery = () if queries_only else copies
    expected = twin(gallery, of_gallery)
    np.testing.assert_allclose(found.gallery_features.embeddings, expected, atol=1e-6)


@pytest.mark.parametrize("queries_only", [True, False])
def test_queries_that_are_the_gallery_are_copied_once(
    photographs: ImageList,
    queries_only: bool,
) -> None:
    images, copies = photographs.take([0, 1, 4]), ("flip",)
    batches: list[int] = []

    def counted(pixels: np.ndarray) -> np.ndarray:
        batches.append(len(pixels))
        return corner(pixels)

    model = Embedder("corner", 8, "corner", counted)
    found = embed(model, images, images, 3, schema.TestTime(copies, queries_only=queries_only))
    assert batches == [3, 3]
    np.testing.assert_allclose(found.query_features.embeddings, twin(images, copies), atol=1e-6)
    of_gallery = () if queries_only else copies
    expected = twin(images, of_gallery)
    np.testing.assert_allclose(found.gallery_features.embeddings, expected, atol=1e-6)


def test_a_photograph_of_one_colour_is_its_own_copy(photographs: ImageList) -> None:
    query, gallery = photographs.take([0, 1]), photographs.take([4, 6, 7])
    test_time = schema.TestTime(("mirror", "turn90"), queries_only=True)
    plain = embed(MeanColour(), query, gallery, 2)
    copied = embed(MeanColour(), query, gallery, 2, test_time)
    expected = plain.query_features.embeddings
    np.testing.assert_allclose(copied.query_features.embeddings, expected, atol=1e-6)
    assert (plain.gallery_features.embeddings == copied.gallery_features.embeddings).all()


def test_copies_are_neither_stored_nor_taken_from_the_store(
    photographs: ImageList,
    tmp_path: Path,
) -> None:
    query, gallery = photographs.take([0, 1]), photographs.take([4, 6, 7])
    store = EmbeddingStore(tmp_path / "store", "corner", print)
    model = Embedder("corner", 8, "corner", corner, store=store)
    for copies in (("mirror",), ("mirror",), ()):
        found = embed(model, query, gallery, 2, schema.TestTime(copies))
        expected = twin(query, copies)
        np.testing.assert_allclose(found.query_features.embeddings, expected, atol=1e-6)
        assert len(store) == 5


def test_copies_of_an_ensemble_are_those_of_its_members(photographs: ImageList) -> None:
    query, gallery = photographs.take([0, 1]), photographs.take([4, 6, 7])
    ensemble = Ensemble(
        "two", (CORNER, dataclasses.replace(CORNER, name="again")), schema.MeanEmbedding()
    )
    test_time = schema.TestTime(("mirror", "flip"))
    found, expected = (embed(model, query, gallery, 2, test_time) for model in (ensemble, CORNER))
    for one, other in (
        (found.query_features, expected.query_features),
        (found.gallery_features, expected.gallery_features),
    ):
        np.testing.assert_allclose(one.embeddings, other.embeddings, atol=1e-6)


class Scripted(Deadline):
    """Says of so many parts that they fit, and of no more."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def part_fits(self, first_s: float | None = None):
        left = iter([True] * self.parts)
        return lambda: next(left, False)


@pytest.mark.parametrize(
    ("parts", "copies"),
    [
        (2, ()),  # the queries' batch and the gallery's
        (3, ()),  # time is left when the copy is begun, and none at its first batch
        (4, ("mirror",)),
        (5, ("mirror",)),
        (6, ("mirror", "flip")),
    ],
)
def test_what_time_does_not_reach_of_the_copies_is_left_out(
    photographs: ImageList,
    parts: int,
    copies: tuple[str, ...],
) -> None:
    query, gallery = photographs.take([0, 1]), photographs.take([4, 6, 7])
    test_time = schema.TestTime(("mirror", "flip"), queries_only=True)
    found = embed(CORNER, query, gallery, 4, test_time, Scripted(parts))
    np.testing.assert_allclose(found.query_features.embeddings, twin(query, copies), atol=1e-6)
    assert found.skipped == () and len(found.gallery) == 3


NOT_BUILT = (
    'TestTime.scales and TestTime.join="concatenation" are not built yet. Built: copies, "mean".'
)
KNOWN = "mirror, flip, turn45, turn90, turn180, turn270, turn315"


@pytest.mark.parametrize(
    ("test_time", "message"),
    [
        (schema.TestTime(scales=(0.7, 1.0)), NOT_BUILT),
        (schema.TestTime(("mirror",), join="concatenation"), NOT_BUILT),
        (
            schema.TestTime(("mirror", "turn30")),
            f"unknown copy 'turn30' (--query_copies, TestTime.copies). Known: {KNOWN}.",
        ),
    ],
)
def test_test_time_that_cannot_be_had_is_refused_before_the_work(
    photographs: ImageList, test_time: schema.TestTime, message: str
) -> None:
    model = Embedder("none", 8, "none", lambda images: pytest.fail("embedded"))
    with pytest.raises(UsageError) as caught:
        embed(model, photographs, photographs, test_time=test_time)
    assert str(caught.value) == message


# --- re-ranking


def test_rerank_is_the_chain_and_large_rankings_are_cut(
    photographs: ImageList,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    plain = rank(retrieval, width_in_memory(retrieval))
    assert plain.rows.shape == (11, 11)
    steps = parse_chain("aqe:2,k_reciprocal:4,2")
    expected = run_chain(steps, retrieval.query_features, retrieval.gallery_features, plain)
    np.testing.assert_array_equal(rerank(retrieval, plain, steps).rows, expected.rows)
    monkeypatch.setattr("delf_ext.pipeline.PLACES_IN_MEMORY", 100)
    monkeypatch.setattr("delf_ext.pipeline.KEPT_PER_QUERY", 4)
    assert width_in_memory(retrieval) == 4
