from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from data_io.records import GlobalFeatures, Ranking
from delf_ext.config import UsageError
from delf_ext.index.exact import search
from delf_ext.index.neighbours import nearest_neighbours
from delf_ext.reranking import diffusion
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.diffusion import (
    DiffusionConfig,
    affinities,
    conjugate_gradients,
    rerank_by_diffusion,
)


def named(vectors: np.ndarray, prefix: str) -> GlobalFeatures:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return GlobalFeatures(
        [f"{prefix}{row}" for row in range(len(vectors))], vectors.astype(np.float32)
    )


def clustered(seed: int, num_images: int, prefix: str, num_dims: int = 8) -> GlobalFeatures:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((4, num_dims))
    return named(
        centres[rng.integers(0, 4, num_images)] + 0.7 * rng.standard_normal((num_images, num_dims)),
        prefix,
    )


def slow_diffusion(
    query: np.ndarray, gallery: np.ndarray, candidates: np.ndarray, config: DiffusionConfig
) -> np.ndarray:
    """Solve for f by the definition, with dense matrices in float64."""
    gallery = gallery.astype(np.float64)
    similarities = (gallery @ gallery.T).astype(np.float32).astype(np.float64)
    near = np.zeros(similarities.shape, bool)
    np.put_along_axis(
        near, np.argsort(-similarities, axis=1, kind="stable")[:, : config.k], True, axis=1
    )
    graph = np.where(near & near.T, np.maximum(similarities, 0.0) ** config.gamma, 0.0)
    np.fill_diagonal(graph, 0.0)
    graph = graph[np.ix_(candidates, candidates)]
    degrees = graph.sum(axis=1)
    roots = np.where(degrees > 0, np.sqrt(degrees), 1.0)
    y = np.where(
        np.arange(len(candidates)) < config.num_seeds,
        np.maximum(gallery[candidates] @ query, 0.0) ** config.gamma,
        0.0,
    )
    return np.linalg.solve(
        np.eye(len(candidates)) - config.alpha * graph / roots[:, None] / roots[None], y
    )


@given(
    seed=st.integers(0, 999),
    k=st.integers(1, 50),
    top_k=st.integers(1, 50),
    alpha=st.sampled_from([0.0, 0.5, 0.99, 0.999]),
    num_seeds=st.integers(1, 12),
    width=st.integers(1, 40),
)
def test_equals_slow_twin(
    seed: int, k: int, top_k: int, alpha: float, num_seeds: int, width: int
) -> None:
    query = clustered(seed, 3, "q")
    gallery = clustered(seed + 1, 40, "g")
    config = DiffusionConfig(k, top_k, alpha, 3.0, num_seeds)
    before = search(query, gallery, width)
    after = rerank_by_diffusion(before, query, gallery, config)
    for query_row in range(3):
        candidates = before.rows[query_row, :top_k]
        expected = slow_diffusion(
            query.embeddings[query_row].astype(np.float64), gallery.embeddings, candidates, config
        )
        behind = float(before.scores[query_row, top_k]) if top_k < width else 0.0
        value = dict(zip(candidates.tolist(), expected))
        spread = np.array([value[row] for row in after.rows[query_row, :top_k].tolist()])
        if expected.max() > 0:
            np.testing.assert_allclose(
                after.scores[query_row, :top_k] - behind,
                spread,
                atol=1e-4 * max(1.0, expected.max()),
            )
            assert (np.diff(spread) <= 1e-4 * max(1.0, expected.max())).all()
    assert (np.sort(after.rows[:, :top_k]) == np.sort(before.rows[:, :top_k])).all()
    assert (after.rows[:, top_k:] == before.rows[:, top_k:]).all() and (
        after.scores[:, top_k:] == before.scores[:, top_k:]
    ).all()


def test_conjugate_gradients_golden_by_hand() -> None:
    """Two mutual neighbours: S = [[0, 1], [1, 0]], y = (1, 0), f = (1, alpha) / (1 - alpha^2)."""
    pair = sparse.csr_matrix([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(
        conjugate_gradients(pair, 0.5, np.array([1.0, 0.0])), [4 / 3, 2 / 3], rtol=1e-12
    )
    assert conjugate_gradients(pair, 0.5, np.zeros(2)).tolist() == [0.0, 0.0]


def test_diffusion_follows_a_chain_of_similar_images() -> None:
    """Views turn step by step; the last is less similar to the query than other objects are."""
    angles = np.deg2rad(np.arange(0, 100, 10))
    views = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    other_objects = np.array([[0.5, -0.1, 0.86], [0.5, -0.12, -0.86]])
    query = named(np.array([[1.0, 0.0, 0.0]]), "q")
    gallery = named(np.concatenate([views, other_objects]), "g")
    before = search(query, gallery)
    after = rerank_by_diffusion(before, query, gallery, DiffusionConfig(k=3, num_seeds=2))
    assert set(before.rows[0, :9].tolist()) != set(range(9)) and set(
        after.rows[0, :10].tolist()
    ) == set(range(10))


def test_affinities_are_mutual() -> None:
    gallery = clustered(1, 30, "g")
    graph = affinities(gallery, DiffusionConfig(k=5, gamma=2.0)).toarray()
    assert (
        (graph == graph.T).all()
        and (graph.diagonal() == 0).all()
        and ((graph > 0).sum(axis=1) <= 4).all()
    )
    neighbours = nearest_neighbours(gallery.embeddings, 9)
    assert (
        affinities(gallery, DiffusionConfig(k=5, gamma=2.0), neighbours).toarray() == graph
    ).all()


def test_ranking_stays_without_seeds_or_differences() -> None:
    query = named(np.array([[1.0, 0.0]]), "q")
    gallery = named(np.array([[-1.0, 0.1], [-1.0, 0.2], [-1.0, 0.3]]), "g")
    before = search(query, gallery)
    after = rerank_by_diffusion(before, query, gallery)
    assert (after.rows == before.rows).all() and (after.scores == before.scores).all()
    copies = named(np.ones((6, 3)), "g")
    same = search(named(np.ones((2, 3)), "q"), copies)
    assert (
        rerank_by_diffusion(
            same, named(np.ones((2, 3)), "q"), copies, DiffusionConfig(num_seeds=6)
        ).rows.tolist()
        == [list(range(6))] * 2
    )


def test_padding_stays_at_the_end() -> None:
    query = clustered(2, 2, "q")
    gallery = clustered(3, 12, "g")
    rows = search(query, gallery).rows.copy()
    scores = search(query, gallery).scores
    rows[1, 5:] = -1
    after = rerank_by_diffusion(
        Ranking(query.ids, gallery.ids, rows, scores), query, gallery, DiffusionConfig(k=6)
    )
    assert (after.rows[1, 5:] == -1).all() and set(after.rows[1, :5].tolist()) == set(
        rows[1, :5].tolist()
    )
    empty = Ranking(query.ids, gallery.ids, np.full((2, 3), -1), np.zeros((2, 3)))
    assert (rerank_by_diffusion(empty, query, gallery).rows == -1).all()


def test_deadline_leaves_unreached_queries_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "QUERIES_PER_BLOCK", 1)
    query = clustered(4, 30, "q")
    gallery = clustered(5, 40, "g")
    before = search(query, gallery)
    now_s = 0.0

    def clock() -> float:  # a second passes at each call
        nonlocal now_s
        now_s += 1.0
        return now_s

    whole = rerank_by_diffusion(before, query, gallery)
    after = rerank_by_diffusion(before, query, gallery, deadline=Deadline(30.0, clock))
    reached = int(after.complete.sum())
    assert 0 < reached < 30 and after.complete[:reached].all() and now_s <= 31
    assert (after.rows[:reached] == whole.rows[:reached]).all() and (
        after.rows[reached:] == before.rows[reached:]
    ).all()
    for budget in (0.0, 2.0):  # no time for the graph
        untouched = rerank_by_diffusion(before, query, gallery, deadline=Deadline(budget, clock))
        assert not untouched.complete.any() and (untouched.rows == before.rows).all()
    assert (
        whole.complete.all()
        and rerank_by_diffusion(before, query, gallery, deadline=Deadline(1e9)).complete.all()
    )


def test_provenance_names_the_settings() -> None:
    query = clustered(6, 2, "q")
    gallery = clustered(7, 9, "g")
    after = rerank_by_diffusion(
        search(query, gallery, 5), query, gallery, DiffusionConfig(k=4, top_k=3)
    )
    assert (
        after.provenance
        == "exact cosine, top 5; top 3 re-ranked by diffusion over 4 mutual neighbours, alpha 0.99"
    )


def test_refuses_wrong_settings_and_other_images() -> None:
    query = clustered(8, 2, "q")
    gallery = clustered(9, 9, "g")
    ranking = search(query, gallery)
    for name in ("k", "top_k", "num_seeds"):
        with pytest.raises(UsageError, match=f"diffusion: {name} must be at least 1. Received 0."):
            DiffusionConfig(**{name: 0})
    with pytest.raises(UsageError, match="diffusion: alpha must be 0 to 0.999. Received 1.0."):
        DiffusionConfig(alpha=1.0)
    with pytest.raises(UsageError, match="diffusion: gamma must be above 0. Received -1."):
        DiffusionConfig(gamma=-1)
    with pytest.raises(ValueError, match="the ranking has other gallery images than the features"):
        rerank_by_diffusion(ranking, query, clustered(9, 9, "h"))
    with pytest.raises(
        ValueError, match=r"neighbours must be \[9, 5\] or wider. Received shape=\(9, 3\)."
    ):
        affinities(gallery, DiffusionConfig(k=5), nearest_neighbours(gallery.embeddings, 3))
