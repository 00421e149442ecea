from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_io.records import GlobalFeatures, Ranking
from delf_ext.config import UsageError
from delf_ext.features.query_copies import average_copies
from delf_ext.index.exact import search
from delf_ext.reranking import query_expansion
from delf_ext.reranking.query_expansion import check_weights, expanded_embeddings
from delf_ext.reranking.rankings import check_same_images


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


def expand(
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    ranking: Ranking,
    num_expand: int,
    alpha: float = 0.0,
) -> GlobalFeatures:
    rows = ranking.rows[:, :num_expand]
    embeddings = expanded_embeddings(query.embeddings, gallery.embeddings, rows, alpha)
    return GlobalFeatures(query.ids, embeddings, query.digest)


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
    query = features(seed, 7, 6, "q")
    gallery = features(seed + 1, 20, 6, "g")
    ranking = search(query, gallery).cut(width)
    rows = ranking.rows.copy()
    rows[3, max(0, width - padded) :] = -1
    ranking = Ranking(query.ids, gallery.ids, rows, ranking.scores)
    mean_features = expand(query, gallery, ranking, num_expand, alpha)
    np.testing.assert_allclose(
        mean_features.embeddings, slow_expand(query, gallery, ranking, num_expand, alpha), atol=2e-6
    )
    assert mean_features.ids is query.ids and mean_features.embeddings.dtype == np.float32


def test_block_size_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    query = features(1, 50, 16, "q")
    gallery = features(2, 40, 16, "g")
    ranking = search(query, gallery, 9)
    whole = expand(query, gallery, ranking, 9, 3.0)
    monkeypatch.setattr(query_expansion, "ROWS_PER_BLOCK", 7)
    np.testing.assert_array_equal(
        expand(query, gallery, ranking, 9, 3.0).embeddings, whole.embeddings
    )


def test_golden_by_hand() -> None:
    """Expand q = (1, 0) by g = (0.6, 0.8).

    Average: (1.6, 0.8) / sqrt(3.2). alpha = 2 weighs g by 0.36: (1.216, 0.288) / 1.24964.
    """
    query = named(np.array([[1.0, 0.0]]), "q")
    gallery = named(np.array([[0.6, 0.8]]), "g")
    ranking = search(query, gallery)
    np.testing.assert_allclose(
        expand(query, gallery, ranking, 1).embeddings, [[0.894427, 0.447214]], atol=1e-6
    )
    np.testing.assert_allclose(
        expand(query, gallery, ranking, 1, 2.0).embeddings,
        [[0.973080, 0.230466]],
        atol=1e-6,
    )


def test_weights_are_similarities_of_the_embeddings_not_scores() -> None:
    query = features(3, 5, 8, "q")
    gallery = features(4, 12, 8, "g")
    ranking = search(query, gallery)
    other_scores = Ranking(
        query.ids, gallery.ids, ranking.rows, np.tile(np.arange(12, 0, -1), (5, 1))
    )
    first, second = (expand(query, gallery, before, 4, 3.0) for before in (ranking, other_scores))
    np.testing.assert_array_equal(first.embeddings, second.embeddings)


def test_sum_without_direction_keeps_the_query() -> None:
    query = named(np.array([[0.6, 0.8], [1.0, 0.0]]), "q")
    gallery = named(np.array([[-0.6, -0.8], [0.0, 1.0]]), "g")
    ranking = Ranking(query.ids, gallery.ids, [[0], [1]], [[0.0], [0.0]])
    mean_features = expand(query, gallery, ranking, 1)
    assert mean_features.embeddings[0].tolist() == query.embeddings[0].tolist()
    assert mean_features.embeddings[1, 1] > 0.7
    # With alpha above 0, an image of negative similarity has weight 0.
    opposite = expand(query, gallery, ranking, 1, alpha=1.0)
    np.testing.assert_allclose(opposite.embeddings, query.embeddings, atol=1e-7)


def test_identical_images_keep_their_embedding() -> None:
    query = named(np.ones((3, 4)), "q")
    gallery = named(np.ones((9, 4)), "g")
    ranking = search(query, gallery)
    again = search(expand(query, gallery, ranking, 5, 3.0), gallery)
    np.testing.assert_array_equal(again.rows, ranking.rows)


def test_average_copies() -> None:
    copies = [features(seed, 6, 5, "q", "digest") for seed in (1, 2, 3)]
    mean = np.mean([copy.embeddings.astype(np.float64) for copy in copies], axis=0)
    mean_features = average_copies(copies)
    np.testing.assert_allclose(
        mean_features.embeddings, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6
    )
    assert mean_features.digest == "digest" and list(mean_features.ids) == list(copies[0].ids)
    np.testing.assert_allclose(
        average_copies(copies[:1]).embeddings, copies[0].embeddings, atol=1e-7
    )
    opposite = GlobalFeatures(copies[0].ids, -copies[0].embeddings, "digest")
    np.testing.assert_array_equal(
        average_copies([copies[0], opposite]).embeddings, copies[0].embeddings
    )


def test_refuses_wrong_settings_and_other_images() -> None:
    query = features(1, 3, 4, "q")
    gallery = features(2, 5, 4, "g")
    ranking = search(query, gallery)
    with pytest.raises(UsageError, match="num_expand must be at least 1. Received 0."):
        check_weights("num_expand", 0, 0.0)
    for alpha in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=f"alpha must be at least 0. Received {alpha}."):
            check_weights("num_expand", 1, alpha)
    with pytest.raises(ValueError, match="the ranking has other gallery images than the features"):
        check_same_images(ranking, query, features(2, 5, 4, "h"))
    with pytest.raises(ValueError, match="the ranking has other query images than the features"):
        check_same_images(ranking, features(1, 3, 4, "p"), gallery)
    with pytest.raises(ValueError, match=r"same D. Received shapes \(3, 4\) and \(5, 6\)"):
        check_same_images(ranking, query, features(2, 5, 6, "g"))
    with pytest.raises(ValueError, match="average_copies needs at least one copy. Received none."):
        average_copies([])
    with pytest.raises(
        ValueError, match="copies must hold the same images in one order, embedded by one model."
    ):
        average_copies([query, features(1, 3, 4, "p")])
