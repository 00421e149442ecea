"""Diffusion: spread similarity over the graph of mutual neighbours in the gallery.

A chain of similar images leads to images that do not look like the query. This helps if an object
has several images, seen from many sides, each near some of the others.
Source: Iscen et al. 2017 (arXiv:1611.05113) and their published code, for graph, system, solver,
truncation, k, alpha and gamma.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

from data_io.records import GlobalFeatures, Ranking
from delf_ext.config import UsageError
from delf_ext.index.neighbours import Neighbours, nearest_neighbours
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.rankings import check_same_images, reranked

RESIDUAL = 1e-6  # relative to y
# A step removes at least 13 % of the error at alpha 0.99, and 4 % at 0.999.
MAX_STEPS = 500
MAX_ALPHA = 0.999
QUERIES_PER_BLOCK = 16


@dataclass(frozen=True)
class DiffusionConfig:
    """Settings of diffusion.

    Attributes:
        k: neighbours of an image, itself among them.
        top_k: candidates to re-rank.
        alpha: how far similarity spreads, 0 to MAX_ALPHA.
        gamma: power of similarities.
        num_seeds: first candidates, through which the query enters the graph.
    """

    k: int = 50
    top_k: int = 1000
    alpha: float = 0.99
    gamma: float = 3.0
    num_seeds: int = 10

    def __post_init__(self) -> None:
        for name in ("k", "top_k", "num_seeds"):
            if getattr(self, name) < 1:
                raise UsageError(
                    f"diffusion: {name} must be at least 1. Received {getattr(self, name)}."
                )
        if not 0 <= self.alpha <= MAX_ALPHA:
            raise UsageError(f"diffusion: alpha must be 0 to {MAX_ALPHA}. Received {self.alpha}.")
        if not (self.gamma > 0 and math.isfinite(self.gamma)):
            raise UsageError(f"diffusion: gamma must be above 0. Received {self.gamma}.")


def rerank_by_diffusion(
    ranking: Ranking,
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    config: DiffusionConfig | None = None,
    neighbours: Neighbours | None = None,
    deadline: Deadline | None = None,
) -> Ranking:
    """Sort the first `top_k` candidates of each query by diffusion.

    f solves (I - alpha S) f = y on the graph between the candidates, S = D^-1/2 A D^-1/2: A has the
    rows and columns of `affinities` of the candidates, D their sums. y is similarity**gamma of the
    query to its first `num_seeds` candidates, else 0. Candidates that nothing reaches (f = 0)
    follow the others in their old order, and so does the tail.
    Memory: the graph, at most k entries of 12 bytes per gallery image, and one graph between top_k
    candidates.

    Args:
        ranking: of these images, [Q, k].
        query: embeddings [Q, D].
        gallery: embeddings [G, D].
        config: settings; None: the defaults.
        neighbours: of the gallery, at least `config.k` each; None: they are searched.
        deadline: queries without time keep their ranking and are not complete; these are all
            queries if the graph is not ready in time.

    Returns:
        A ranking [Q, k]. The score of a re-ranked candidate is f plus the score of the first image
        of the tail; all others keep their score.

    Raises:
        ValueError: the ranking is not of these images, or the neighbours of another gallery.
    """
    config = config or DiffusionConfig()
    deadline = deadline or Deadline()
    check_same_images(ranking, query, gallery)
    note = (
        f"top {config.top_k} re-ranked by diffusion over {config.k} mutual neighbours, "
        f"alpha {config.alpha:g}"
    )
    reached = np.zeros(len(query), bool)
    try:
        graph = affinities(gallery, config, neighbours, deadline)
    except TimeoutError:
        return reranked(ranking, ranking.rows, ranking.scores, reached, note)
    rows = ranking.rows.copy()
    scores = ranking.scores.copy()
    for block in deadline.blocks(len(query), QUERIES_PER_BLOCK, what="diffusion"):
        for query_row in range(block.start, block.stop):
            candidates = rows[query_row, : config.top_k]
            candidates = candidates[candidates >= 0]
            num_candidates = len(candidates)
            embedding = query.embeddings[query_row]
            spread = _spread(graph, embedding, gallery.embeddings, candidates, config)
            if spread.any():
                order = np.argsort(-spread, kind="stable")
                behind = _score_behind(ranking, query_row, num_candidates)
                rows[query_row, :num_candidates] = candidates[order]
                scores[query_row, :num_candidates] = spread[order] + behind
        reached[block] = True
    return reranked(ranking, rows, scores, reached, note)


def affinities(
    gallery: GlobalFeatures,
    config: DiffusionConfig,
    neighbours: Neighbours | None = None,
    deadline: Deadline | None = None,
) -> sparse.csr_matrix:
    """Compute the graph A of mutual neighbours in the gallery.

    Args:
        gallery: embeddings [G, D].
        config: uses `k` and `gamma`.
        neighbours: of the gallery, at least `config.k` each; None: they are searched.
        deadline: the neighbours must be found before it.

    Returns:
        float64 [G, G]: similarity**gamma if two images are among each other's k nearest, else 0; 0
        on the diagonal.

    Raises:
        TimeoutError: the neighbours are not found in time.
        ValueError: the neighbours are of another gallery, or too few.
    """
    if neighbours is None:
        give_up = (deadline or Deadline()).give_up()
        neighbours = nearest_neighbours(gallery.embeddings, config.k, give_up)
    k = min(config.k, len(gallery))
    if len(neighbours.rows) != len(gallery) or neighbours.rows.shape[1] < k:
        raise ValueError(
            f"neighbours must be [{len(gallery)}, {config.k}] or wider. "
            f"Received shape={neighbours.rows.shape}."
        )
    images = np.repeat(np.arange(len(gallery)), k)
    nearest = neighbours.rows[:, :k].ravel()
    similarities = neighbours.similarities[:, :k].ravel().astype(np.float64)
    weights = np.maximum(similarities, 0.0) ** config.gamma
    weights[nearest == images] = 0.0
    directed = sparse.csr_matrix((weights, (images, nearest)), shape=(len(gallery), len(gallery)))
    return sparse.csr_matrix(directed.minimum(directed.T))


def _spread(
    graph: sparse.csr_matrix,
    query: np.ndarray,
    gallery: np.ndarray,
    candidates: np.ndarray,
    config: DiffusionConfig,
) -> np.ndarray:
    """Compute f, float64 [c], never negative, of one query's candidates in their order."""
    first = candidates[: config.num_seeds]
    seeds = np.zeros(len(candidates))
    seeds[: len(first)] = np.maximum(gallery[first].astype(np.float64) @ query, 0.0) ** config.gamma
    between = graph[candidates][:, candidates]
    degrees = np.asarray(between.sum(axis=1)).ravel()
    scaling = sparse.diags(1 / np.sqrt(np.where(degrees > 0, degrees, 1.0)))
    return np.maximum(conjugate_gradients(scaling @ between @ scaling, config.alpha, seeds), 0.0)


def conjugate_gradients(graph: sparse.csr_matrix, alpha: float, y: np.ndarray) -> np.ndarray:
    """Solve (I - alpha S) f = y, which is positive definite as S has no eigenvalue above 1.

    Args:
        graph: S, float64 [c, c].
        alpha: at most MAX_ALPHA.
        y: float64 [c].

    Returns:
        f, float64 [c]; the residual is at most RESIDUAL * |y|.
    """
    system = LinearOperator(graph.shape, lambda f: f - alpha * (graph @ f), dtype=np.float64)
    return cg(system, y, rtol=RESIDUAL, maxiter=MAX_STEPS)[0]


def _score_behind(ranking: Ranking, query_row: int, place: int) -> float:
    """Return the score at a place, which re-ranked images before it must not fall below, or 0."""
    if place < ranking.rows.shape[1] and ranking.rows[query_row, place] >= 0:
        return float(ranking.scores[query_row, place])
    return 0.0
