"""Diffusion: similarity spreads over the graph of mutual neighbours in the gallery: a chain of images leads to what looks unlike.

It helps where an object is seen from many sides, each image near some of the others, and needs several images per object.
Source: Iscen et al. 2017 (arXiv:1611.05113) and their published code, for graph, system, solver, truncation, k, alpha, gamma.
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
    """k: neighbours of an image, itself among them; top_k: candidates that are re-ranked; alpha: how far similarity spreads;
    gamma: power of similarities; num_seeds: first candidates, where the query enters the graph."""

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
    """Orders the first `top_k` candidates of each query by f of (I - alpha S) f = y, solved on the graph between them.

    S = D^-1/2 A D^-1/2: of A (`affinities`) the rows and columns of the candidates, D their sums. y: similarity**gamma of the
    query to its first `num_seeds` candidates, else 0. Candidates that nothing reaches (f = 0) stand behind the others, as they
    stood; so does the tail.
    Scores: of a re-ranked candidate f plus the score of the first of the tail; every other keeps its own.
    neighbours: those of the gallery, at least k of each, where they are known already.
    deadline: queries that it leaves no time for keep their ranking and are not complete; all, if the graph is not made in time.
    Memory: the graph, at most k entries of 12 bytes per gallery image, and one graph between top_k candidates.
    Raises: ValueError where the ranking is not of these images, or the neighbours of another gallery.
    """
    config, deadline = config or DiffusionConfig(), deadline or Deadline(None)
    check_same_images(ranking, query, gallery)
    rows, scores, reached = ranking.rows.copy(), ranking.scores.copy(), np.zeros(len(query), bool)
    try:
        graph = affinities(gallery, config, neighbours, deadline)
    except TimeoutError:
        graph, deadline = sparse.csr_matrix((len(gallery), len(gallery))), Deadline(0)
    for block in deadline.blocks(len(query), QUERIES_PER_BLOCK, what="diffusion"):
        for at in range(block.start, block.stop):
            candidates = rows[at, : config.top_k][rows[at, : config.top_k] >= 0]
            spread = _spread(graph, query.embeddings[at], gallery.embeddings, candidates, config)
            order, here = np.argsort(-spread, kind="stable"), (at, slice(len(candidates)))
            if spread.any():
                rows[here], scores[here] = (
                    candidates[order],
                    spread[order] + _score_behind(ranking, at, len(candidates)),
                )
        reached[block] = True
    note = (
        f"top {config.top_k} re-ranked by diffusion over {config.k} mutual neighbours, "
        f"alpha {config.alpha:g}"
    )
    return reranked(ranking, rows, scores, reached, note)


def affinities(
    gallery: GlobalFeatures,
    config: DiffusionConfig,
    neighbours: Neighbours | None = None,
    deadline: Deadline | None = None,
) -> sparse.csr_matrix:
    """A [G, G]: similarity**gamma where two images are among each other's k nearest, else 0; nobody is his own neighbour.

    Raises: TimeoutError where the neighbours are not found before the deadline.
    """
    found = neighbours or nearest_neighbours(
        gallery.embeddings, config.k, (deadline or Deadline(None)).give_up()
    )
    if len(found.rows) != len(gallery) or found.rows.shape[1] < min(config.k, len(gallery)):
        raise ValueError(
            f"neighbours must be [{len(gallery)}, {config.k}] or wider. Received shape={found.rows.shape}."
        )
    images = np.repeat(np.arange(len(gallery)), min(config.k, len(gallery)))
    nearest, similarities = (
        found.rows[:, : config.k].ravel(),
        found.similarities[:, : config.k].ravel(),
    )
    weights = np.where(
        nearest == images, 0.0, np.maximum(similarities.astype(np.float64), 0.0) ** config.gamma
    )
    directed = sparse.csr_matrix((weights, (images, nearest)), shape=(len(gallery), len(gallery)))
    return sparse.csr_matrix(directed.minimum(directed.T))


def _spread(
    graph: sparse.csr_matrix,
    query: np.ndarray,
    gallery: np.ndarray,
    candidates: np.ndarray,
    config: DiffusionConfig,
) -> np.ndarray:
    """f [c], never negative, of one query's candidates in their order."""
    seeds, first = np.zeros(len(candidates)), candidates[: config.num_seeds]
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


def _score_behind(ranking: Ranking, at: int, place: int) -> float:
    """The score at that place of a ranking, which the re-ranked before it must not fall below; 0 where nothing stands there."""
    behind = place < ranking.rows.shape[1] and ranking.rows[at, place] >= 0
    return float(ranking.scores[at, place]) if behind else 0.0
