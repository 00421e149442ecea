from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.records import GlobalFeatures, Ranking
from delf_ext.config import UsageError
from delf_ext.index.exact import search
from delf_ext.reranking import jaccard, k_reciprocal
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.k_reciprocal import rerank_k_reciprocal


def features(vectors: np.ndarray, prefix: str) -> GlobalFeatures:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return GlobalFeatures(
        [f"{prefix}{row}" for row in range(len(vectors))], vectors.astype(np.float32)
    )


def clustered(seed: int, num_images: int, num_dims: int = 16, spread: float = 0.8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, num_images // 8), num_dims))
    return centres[rng.integers(len(centres), size=num_images)] + spread * rng.standard_normal(
        (num_images, num_dims)
    )


def slow_distances(
    query: GlobalFeatures, gallery: GlobalFeatures, k1: int, k2: int, lambda_: float
) -> np.ndarray:
    """Compute final distances [Q, G] as in the paper, with dense matrices in float64."""
    vectors = np.concatenate([query.embeddings, gallery.embeddings])
    units = np.rint(vectors.astype(np.float64) * 2**26)  # exact products, so that copies tie
    distances = 2 - 2 * (units @ units.T / 2**52).astype(np.float32).astype(np.float64)
    distances /= distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1, kind="stable")
    num_images = len(vectors)

    def mutual(image: int, k: int) -> set[int]:
        first = order[image, : k + 1]
        return set(first[(order[first, : k + 1] == image).any(axis=1)].tolist())

    encodings = np.zeros((num_images, num_images))
    for image in range(num_images):
        core = mutual(image, k1)
        halves = [mutual(other, int(np.around(k1 / 2))) for other in core]
        members = sorted(
            core.union(*(half for half in halves if 3 * len(half & core) > 2 * len(half)))
        )
        weights = np.exp(-distances[image, members])
        encodings[image, members] = weights / weights.sum()
    if k2 > 1:
        encodings = np.array(
            [encodings[order[image, :k2]].mean(axis=0) for image in range(num_images)]
        )
    own = encodings[: len(query)]
    others = encodings[len(query) :]
    shared = np.array([[np.minimum(a, b).sum() for b in others] for a in own])
    shared = np.round(shared, 9)  # values that differ by float64 rounding must tie
    return (1 - lambda_) * (1 - shared / (2 - shared)) + lambda_ * distances[
        : len(query), len(query) :
    ]


def assert_same_as_slow_twin(
    query: GlobalFeatures, gallery: GlobalFeatures, k1: int, k2: int, lambda_: float
) -> None:
    expected = slow_distances(query, gallery, k1, k2, lambda_)
    result = rerank_k_reciprocal(search(query, gallery), query, gallery, k1, k2, lambda_)
    np.testing.assert_array_equal(result.rows, np.argsort(expected, axis=1, kind="stable"))
    np.testing.assert_allclose(
        result.scores, 1 - np.take_along_axis(expected, result.rows, axis=1), atol=1e-6
    )
    assert result.complete.all()


CASES = [
    (20, 6, 0.3),
    (20, 1, 0.3),
    (5, 3, 0.0),
    (7, 9, 0.3),
    (20, 6, 1.0),
    (1, 1, 0.5),
    (200, 6, 0.3),
    (9, 300, 0.1),
]


@pytest.mark.parametrize(("k1", "k2", "lambda_"), CASES)
@pytest.mark.parametrize("spread", [0.5, 1.0, 50.0])
def test_equals_slow_twin(k1: int, k2: int, lambda_: float, spread: float) -> None:
    vectors = clustered(1, 100, spread=spread)
    assert_same_as_slow_twin(
        features(vectors[:15], "q"), features(vectors[15:], "g"), k1, k2, lambda_
    )


@pytest.mark.parametrize("k1", [4, 20])
def test_equals_slow_twin_with_copies_and_ties(k1: int) -> None:
    vectors = clustered(2, 60)
    copies = np.concatenate(
        [vectors, np.repeat(vectors[:1], 40, axis=0), np.repeat(vectors[3:7], 3, axis=0)]
    )
    copies = copies[np.random.default_rng(3).permutation(len(copies))]
    gallery = features(copies, "g")
    assert_same_as_slow_twin(features(vectors[:12], "q"), gallery, k1, 6, 0.3)


def test_equals_slow_twin_on_a_lattice_of_equal_distances() -> None:
    vectors = np.random.default_rng(4).integers(-1, 2, (150, 4)).astype(float)
    vectors = vectors[np.abs(vectors).sum(axis=1) > 0]
    assert_same_as_slow_twin(features(vectors[:15], "q"), features(vectors[15:], "g"), 12, 4, 0.3)


def test_equals_slow_twin_for_a_single_query() -> None:
    vectors = clustered(5, 40)
    assert_same_as_slow_twin(features(vectors[:1], "q"), features(vectors[1:], "g"), 6, 3, 0.3)
    assert_same_as_slow_twin(features(vectors[:1], "q"), features(vectors[1:2], "g"), 6, 3, 0.3)


def test_query_in_the_gallery_ranks_first() -> None:
    vectors = clustered(6, 60)
    gallery = features(vectors, "g")
    query = GlobalFeatures(gallery.ids[10:20], gallery.embeddings[10:20])
    assert_same_as_slow_twin(query, gallery, 8, 3, 0.3)
    result = rerank_k_reciprocal(search(query, gallery), query, gallery, 8, 3, 0.3)
    np.testing.assert_array_equal(result.rows[:, 0], np.arange(10, 20))


def test_equal_images_keep_gallery_order() -> None:
    query = features(np.ones((2, 3)), "q")
    gallery = features(np.ones((60, 3)), "g")
    result = rerank_k_reciprocal(search(query, gallery), query, gallery, 5, 2, 1.0)
    np.testing.assert_array_equal(result.rows, np.tile(np.arange(60), (2, 1)))


@pytest.mark.parametrize("entries", [1, 50, 2**19])
def test_cut_ranking_has_the_order_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, entries: int
) -> None:
    monkeypatch.setattr(k_reciprocal, "ENTRIES_PER_BLOCK", entries)
    monkeypatch.setattr(jaccard, "NUM_THREADS", 3)
    vectors = clustered(7, 90)
    query = features(vectors[:11], "q")
    gallery = features(vectors[11:], "g")
    whole = rerank_k_reciprocal(search(query, gallery), query, gallery)
    first = search(query, gallery, 12)
    rows = first.rows.copy()
    scores = first.scores.copy()
    # Another step may have left padding.
    rows[3, 8:] = -1
    rows[5] = -1
    scores[5] = -7.0
    cut = rerank_k_reciprocal(dataclasses.replace(first, rows=rows, scores=scores), query, gallery)
    for line, order, before in zip(cut.rows, whole.rows, rows, strict=True):
        kept = before[before >= 0]
        np.testing.assert_array_equal(line[: len(kept)], order[np.isin(order, kept)])
        assert (line[len(kept) :] == -1).all()
    assert cut.provenance == "exact cosine, top 12; k-reciprocal 20,6,0.3"


@settings(max_examples=15)
@given(
    st.integers(0, 10_000),
    st.integers(2, 60),
    st.integers(1, 70),
    st.integers(1, 8),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_candidates_stay_and_lambda_1_keeps_their_order(
    seed: int, num: int, k1: int, k2: int, lambda_: float
) -> None:
    vectors = clustered(seed, num)
    query = features(vectors[: num // 2], "q")
    gallery = features(vectors[num // 2 :], "g")
    ranking = search(query, gallery, 25)
    result = rerank_k_reciprocal(ranking, query, gallery, k1, k2, lambda_)
    np.testing.assert_array_equal(np.sort(result.rows, axis=1), np.sort(ranking.rows, axis=1))
    assert result.scores.min() >= -1e-6 and result.scores.max() <= 1 + 1e-6
    if lambda_ == 1.0:
        np.testing.assert_array_equal(result.rows, ranking.rows)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(2, 40))
def test_shuffling_the_gallery_shuffles_the_result(seed: int, k1: int) -> None:
    vectors = clustered(seed, 60)
    order = np.random.default_rng(seed).permutation(50)
    query = features(vectors[:10], "q")
    gallery = features(vectors[10:], "g")
    shuffled = GlobalFeatures(gallery.ids[order], gallery.embeddings[order])
    result, other = (
        rerank_k_reciprocal(search(query, record), query, record, k1, 3)
        for record in (gallery, shuffled)
    )
    np.testing.assert_array_equal(result.gallery_ids[result.rows], other.gallery_ids[other.rows])
    np.testing.assert_array_equal(result.scores, other.scores)


def test_deadline_leaves_unreached_queries_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of the clock takes a second."""
    monkeypatch.setattr(k_reciprocal, "ENTRIES_PER_BLOCK", 1)
    vectors = clustered(8, 60)
    query = features(vectors[:20], "q")
    gallery = features(vectors[20:], "g")
    before = dataclasses.replace(search(query, gallery), complete=np.arange(20) != 1)
    whole = rerank_k_reciprocal(before, query, gallery)
    np.testing.assert_array_equal(whole.complete, before.complete)
    reached = []
    for budget_s in range(0, 1000, 50):
        ticks = itertools.count()
        result = rerank_k_reciprocal(
            before,
            query,
            gallery,
            deadline=Deadline(budget_s, lambda ticks=ticks: float(next(ticks))),
        )
        new = (result.rows == whole.rows).all(axis=1) & (result.scores == whole.scores).all(axis=1)
        old = (result.rows == before.rows).all(axis=1) & (result.scores == before.scores).all(
            axis=1
        )
        assert (new | old).all() and (new | ~result.complete).all() and next(ticks) <= budget_s + 3
        reached.append(int(result.complete.sum()))
    assert reached[0] == 0 and reached[-1] == 19 and any(0 < count < 19 for count in reached)


def test_refusals_show_the_received_values() -> None:
    query = features(clustered(9, 4), "q")
    gallery = features(clustered(10, 6), "g")
    ranking = search(query, gallery)
    for settings_, message in (
        ((0, 6, 0.3), "0, 6 and 0.3"),
        ((20, 0, 0.3), "20, 0 and"),
        ((20, 6, 1.5), "and 1.5"),
        ((20, 6, np.nan), "nan"),
    ):
        with pytest.raises(
            UsageError,
            match=f"k1 and k2 must be at least 1, lambda_ in .0, 1.. Received .*{message}",
        ):
            rerank_k_reciprocal(ranking, query, gallery, *settings_)
    with pytest.raises(ValueError, match="other gallery images than the features"):
        rerank_k_reciprocal(ranking, query, query)
    nothing = Ranking(
        query.ids, gallery.ids, np.zeros((4, 0), np.int32), np.zeros((4, 0), np.float32)
    )
    assert rerank_k_reciprocal(nothing, query, gallery).rows.shape == (4, 0)
