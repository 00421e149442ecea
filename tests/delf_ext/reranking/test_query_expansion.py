from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_io.records import GlobalFeatures, Ranking
from delf_ext.config import UsageError
from delf_ext.index.exact import search
from delf_ext.reranking import query_expansion
from delf_ext.reranking.query_expansion import average_copies, expand_queries


def features(
    seed: int, num_images: int, num_dims: int, prefix: str, digest: str = ""
) -> GlobalFeatures:
    vectors = np.random.default_rng(seed).standard_normal((num_images, num_dims))
    return named(vectors, prefix, digest)


def named(vectors: np.ndarray, prefix: str, digest: str = "") -> GlobalFeatures:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return GlobalFeatures(
        [f"{prefix}{row}" for row in range(len(vectors))], vectors.astype(np.float32), digest
    )


def slow_expand(
    query: GlobalFeatures, gallery: GlobalFeatures, ranking: Ranking, num_expand: int, alpha: float
) -> np.ndarray:
    """Expand by the definition, image by image in float64."""
    result = []
    for own, rows in zip(query.embeddings.astype(np.float64), ranking.rows):
        total = own.copy()
        for row in rows[:num_expand]:
            if row >= 0:
                other = gallery.embeddings[row].astype(np.float64)
                total += other if alpha == 0 else max(own @ other, 0.0) ** alpha * other
        length = np.linalg.norm(total)
        result.append(total / length if length > 1e-6 else own)
    return np.array(result)


@given(
    seed=st.integers(0, 999),
    num_expand=st.integers(1, 30),
    alpha=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    width=st.integers(0, 20),
    padded=st.integers(0, 5),
)
def test_equals_slow_twin(
    seed: int, num_expand: int, alpha: float, width: int, padded: int
) -> None:
    query, gallery = features(seed, 7, 6, "q"), features(seed + 1, 20, 6, "g")
    ranking = search(query, gallery).cut(width)
    rows = ranking.rows.copy()
    rows[3, max(0, width - padded) :] = -1
    ranking = Ranking(query.ids, gallery.ids, rows, ranking.scores)
    found = expand_queries(query, gallery, ranking, num_expand, alpha)
    np.testing.assert_allclose(
        found.embeddings, slow_expand(query, gallery, ranking, num_expand, alpha), atol=2e-6
    )
    assert found.ids is query.ids and found.embeddings.dtype == np.float32


def test_block_size_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    query, gallery = features(1, 50, 16, "q"), features(2, 40, 16, "g")
    ranking = search(query, gallery, 9)
    whole = expand_queries(query, gallery, ranking, 9, 3.0)
    monkeypatch.setattr(query_expansion, "ROWS_PER_BLOCK", 7)
    np.testing.assert_array_equal(
        expand_queries(query, gallery, ranking, 9, 3.0).embeddings, whole.embeddings
    )


def test_golden_by_hand() -> None:
    """Expand q = (1, 0) by g = (0.6, 0.8).

    Average: (1.6, 0.8) / sqrt(3.2). alpha = 2 weighs g by 0.36: (1.216, 0.288) / 1.24964.
    """
    query, gallery = named(np.array([[1.0, 0.0]]), "q"), named(np.array([[0.6, 0.8]]), "g")
    ranking = search(query, gallery)
    np.testing.assert_allclose(
        expand_queries(query, gallery, ranking, 1).embeddings, [[0.894427, 0.447214]], atol=1e-6
    )
    np.testing.assert_allclose(
        expand_queries(query, gallery, ranking, 1, 2.0).embeddings,
        [[0.973080, 0.230466]],
        atol=1e-6,
    )


def test_weights_are_similarities_of_the_embeddings_not_scores() -> None:
    query, gallery = features(3, 5, 8, "q"), features(4, 12, 8, "g")
    ranking = search(query, gallery)
    told_otherwise = Ranking(
        query.ids, gallery.ids, ranking.rows, np.tile(np.arange(12, 0, -1), (5, 1))
    )
    first, second = (
        expand_queries(query, gallery, one, 4, 3.0) for one in (ranking, told_otherwise)
    )
    np.testing.assert_array_equal(first.embeddings, second.embeddings)


def test_sum_without_direction_keeps_the_query() -> None:
    query = named(np.array([[0.6, 0.8], [1.0, 0.0]]), "q")
    gallery = named(np.array([[-0.6, -0.8], [0.0, 1.0]]), "g")
    ranking = Ranking(query.ids, gallery.ids, [[0], [1]], [[0.0], [0.0]])
    found = expand_queries(query, gallery, ranking, 1)
    assert (
        found.embeddings[0].tolist() == query.embeddings[0].tolist()
        and found.embeddings[1, 1] > 0.7
    )
    opposite = expand_queries(
        query, gallery, ranking, 1, alpha=1.0
    )  # of negative similarity: counts nothing
    np.testing.assert_allclose(opposite.embeddings, query.embeddings, atol=1e-7)


def test_identical_images_keep_their_embedding() -> None:
    query, gallery = named(np.ones((3, 4)), "q"), named(np.ones((9, 4)), "g")
    ranking = search(query, gallery)
    again = search(expand_queries(query, gallery, ranking, 5, 3.0), gallery)
    np.testing.assert_array_equal(again.rows, ranking.rows)


def test_average_copies() -> None:
    copies = [features(seed, 6, 5, "q", "digest") for seed in (1, 2, 3)]
    mean = np.mean([copy.embeddings.astype(np.float64) for copy in copies], axis=0)
    found = average_copies(copies)
    np.testing.assert_allclose(
        found.embeddings, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6
    )
    assert found.digest == "digest" and list(found.ids) == list(copies[0].ids)
    np.testing.assert_allclose(
        average_copies(copies[:1]).embeddings, copies[0].embeddings, atol=1e-7
    )
    opposite = GlobalFeatures(copies[0].ids, -copies[0].embeddings, "digest")
    np.testing.assert_array_equal(
        average_copies([copies[0], opposite]).embeddings, copies[0].embeddings
    )


def test_refuses_wrong_settings_and_other_images() -> None:
    query, gallery = features(1, 3, 4, "q"), features(2, 5, 4, "g")
    ranking = search(query, gallery)
    with pytest.raises(UsageError, match="num_expand must be at least 1. Received 0."):
        expand_queries(query, gallery, ranking, 0)
    for alpha in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=f"alpha must be at least 0. Received {alpha}."):
            expand_queries(query, gallery, ranking, 1, alpha)
    with pytest.raises(ValueError, match="the ranking has other gallery images than the features"):
        expand_queries(query, features(2, 5, 4, "h"), ranking, 1)
    with pytest.raises(ValueError, match="the ranking has other query images than the features"):
        expand_queries(features(1, 3, 4, "p"), gallery, ranking, 1)
    with pytest.raises(ValueError, match=r"same D. Received shapes \(3, 4\) and \(5, 6\)"):
        expand_queries(query, features(2, 5, 6, "g"), ranking, 1)
    with pytest.raises(ValueError, match="average_copies needs at least one copy. Received none."):
        average_copies([])
    with pytest.raises(
        ValueError, match="copies must hold the same images in one order, embedded by one model."
    ):
        average_copies([query, features(1, 3, 4, "p")])
