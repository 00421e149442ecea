"""Geometric verification: move candidates that show the query's object to the front.

Source of the order by (inliers, global score) over the top 100: DELF (Noh et al. 2017,
arXiv:1612.06321).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_io.records import LocalFeatures, Ranking
from delf_ext.config import UsageError
from delf_ext.geometry.verification import VerifyConfig, verify
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.evidence import NOT_VERIFIED, Evidence
from delf_ext.reranking.extractor_pairs import ExtractorPair, extractor_pairs
from delf_ext.reranking.rankings import reranked

ORDERS = ("inliers", "combined")
# Reasons why a query keeps its ranking.
NO_FEATURES = "no local features"
TOO_FEW_FEATURES = "too few features"
NOTHING_ACCEPTED = "no candidate accepted"
NO_TIME_LEFT = "no time left"


@dataclass(frozen=True)
class GeometricConfig:
    """Settings of geometric re-ranking.

    Attributes:
        top_k: candidates to verify.
        min_features: an extractor with fewer features in a query is not used for it.
        order: of accepted candidates, ties by global score: "inliers", by their number, or
            "combined", by -log10 of the number of false alarms, which also weighs the number of
            matches.
        verify: for all extractors, or one for each. A candidate is accepted if one accepts it.
    """

    top_k: int = 100
    min_features: int = 20
    order: str = "inliers"
    verify: tuple[VerifyConfig, ...] = (VerifyConfig(),)

    def __post_init__(self) -> None:
        for name in ("top_k", "min_features"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1. Received {getattr(self, name)}.")
        if self.order not in ORDERS:
            raise UsageError(f"order is {' or '.join(ORDERS)}. Received {self.order!r}.")


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Verification of a query's candidates in their old order.

    num_inliers: int32 [k]; scores: float32 [k]; accepted: bool [k]; reason: why none was verified.
    """

    num_inliers: np.ndarray
    scores: np.ndarray
    accepted: np.ndarray
    reason: str = ""


def rerank_geometric(
    ranking: Ranking,
    query_features: LocalFeatures | Sequence[LocalFeatures],
    gallery_features: LocalFeatures | Sequence[LocalFeatures],
    config: GeometricConfig | None = None,
    deadline: Deadline | None = None,
) -> tuple[Ranking, Evidence]:
    """Verify each query against its first `top_k` candidates, and move accepted ones to the front.

    Accepted candidates are sorted by (evidence, global score). All others keep their order. The
    first `top_k` places hold the same images as before, so R@k for k >= top_k does not change. A
    query without enough features or without an accepted candidate keeps its ranking.

    Args:
        ranking: [Q, k].
        query_features: of one extractor or several; inliers and scores are summed.
        gallery_features: of the same extractors, in the same order.
        config: settings; None: the defaults.
        deadline: queries without time keep their ranking and are not complete.

    Returns:
        The new ranking, and the evidence in its order, [Q, min(top_k, k)]. The score of an accepted
        candidate is the best global score of its query plus its evidence (inliers, or the combined
        score); all others keep their score.

    Raises:
        ValueError: the features are not of these images, or differ in their extractors.
    """
    config = config or GeometricConfig()
    pairs = extractor_pairs(ranking, query_features, gallery_features, config.verify)
    rows = ranking.rows.copy()
    scores = ranking.scores.copy()
    num_queries = len(rows)
    width = min(config.top_k, rows.shape[1])
    num_inliers = np.full((num_queries, width), NOT_VERIFIED, np.int32)
    accepted = np.zeros((num_queries, width), bool)
    combined = np.zeros((num_queries, width), np.float32)
    left_alone: list[str] = []
    results = _verified_queries(ranking, width, pairs, config, deadline or Deadline())
    for query_row, result in enumerate(results):
        good = result.accepted
        evidence = result.scores if config.order == "combined" else result.num_inliers
        weights = np.where(good, evidence, -1.0)
        order = np.argsort(-weights, kind="stable")
        head = (query_row, slice(len(good)))
        if good.any():
            raised = scores[query_row, 0] + weights
            scores[head] = np.where(good, raised, scores[head])[order]
            rows[head] = rows[head][order]
        num_inliers[head] = result.num_inliers[order]
        accepted[head] = good[order]
        combined[head] = result.scores[order]
        left_alone.append(result.reason or ("" if good.any() else NOTHING_ACCEPTED))
    reached = np.arange(num_queries) < len(left_alone)
    left_alone += [NO_TIME_LEFT] * (num_queries - len(left_alone))
    return reranked(ranking, rows, scores, reached, _note(config)), Evidence(
        ranking.query_ids,
        rows[:, :width].copy(),
        num_inliers,
        accepted,
        combined,
        np.array(left_alone, str),
    )


def pair_key(query_id: str, gallery_id: str) -> int:
    """Return the RANSAC key of a pair, 0 <= key < 2^63.

    It depends on the ids only, so the result is the same in any order and on any machine.
    """
    digest = hashlib.blake2b(
        f"{query_id}\0{gallery_id}".encode(errors="surrogateescape"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "little") >> 1


def _verified_queries(
    ranking: Ranking,
    width: int,
    pairs: Sequence[ExtractorPair],
    config: GeometricConfig,
    deadline: Deadline,
) -> Iterator[_Candidates]:
    """Yield the result of each query, in order, as long as there is time."""
    for block in deadline.blocks(len(ranking), 1, what="verifying"):
        rows = ranking.rows[block.start, :width]
        candidate_ids = ranking.gallery_ids[rows[rows >= 0]]
        yield _verified(str(ranking.query_ids[block.start]), candidate_ids, pairs, config)


def _verified(
    query_id: str,
    candidate_ids: np.ndarray,
    pairs: Sequence[ExtractorPair],
    config: GeometricConfig,
) -> _Candidates:
    num_inliers = np.full(len(candidate_ids), NOT_VERIFIED, np.int32)
    scores = np.zeros(len(candidate_ids), np.float32)
    accepted = np.zeros(len(candidate_ids), bool)
    reason = NO_FEATURES
    for pair in pairs:
        if query_id not in pair.query:
            continue
        query = pair.query.of(query_id)
        if len(query) < config.min_features:
            if reason:
                reason = TOO_FEW_FEATURES
            continue
        reason = ""
        places = [place for place, name in enumerate(candidate_ids) if name in pair.gallery]
        images = [pair.gallery_image(str(candidate_ids[place])) for place in places]
        keys = [pair_key(query_id, str(candidate_ids[place])) for place in places]
        results = verify(query, images, keys, pair.verify)
        for place, verification in zip(places, results, strict=True):
            num_inliers[place] = max(num_inliers[place], 0) + verification.num_inliers
            accepted[place] |= verification.accepted
            scores[place] += verification.significance
    return _Candidates(num_inliers, scores, accepted, reason)


def _note(config: GeometricConfig) -> str:
    accepted_from = " or ".join(str(way.accepted_from) for way in config.verify)
    return (
        f"top {config.top_k} re-ranked geometrically by {config.order}, "
        f"accepted from {accepted_from} inliers"
    )
