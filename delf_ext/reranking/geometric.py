"""Geometric verification: the candidates that show the query's own object move to the front of its ranking.

Source of the order by (inliers, global score) over the top 100: DELF (Noh et al. 2017, arXiv:1612.06321).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_io.records import ImageKeypoints, LocalFeatures, Ranking
from delf_ext.config import UsageError
from delf_ext.geometry.verification import VerifyConfig, verify
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.evidence import NOT_VERIFIED, Evidence
from delf_ext.reranking.rankings import reranked

GALLERY_IMAGES_KEPT = 256  # decoded, for the queries that follow: 45 MB at 1,000 features of 40-D
ORDERS = ("inliers", "combined")
NO_FEATURES, TOO_FEW_FEATURES, NOTHING_ACCEPTED = (
    "no local features",
    "too few features",
    "no candidate accepted",
)
NO_TIME_LEFT = "no time left"


@dataclass(frozen=True)
class GeometricConfig:
    """How many candidates are verified, how, and in which order accepted ones stand.

    min_features: an extractor that found fewer in a query says nothing about it. order: "inliers", by their number, or
    "combined", by -log10 of the number of false alarms, which also weighs how many matches there were; ties by global score.
    verify: for all extractors, or one for each; a candidate is accepted when one of them accepts it.
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
class _Extractor:
    """What one extractor found in queries and gallery."""

    query: LocalFeatures
    gallery: LocalFeatures
    gallery_image: Callable[[str], ImageKeypoints]
    verify: VerifyConfig


@dataclass(frozen=True, eq=False)
class _Head:
    """A query's first candidates in their old order: num_inliers [k] int32, scores [k] float32, accepted [k] bool; reason: why
    none was verified."""

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
    """Verifies each query against its first `top_k` candidates and puts the accepted ones in front.

    query_features, gallery_features: of one extractor, or of several in one order; their inliers and scores add up.
    Order: the accepted by (evidence, global score), the other candidates as they stood, the tail as it stood. The first `top_k`
    places hold the same images as before, so R@k for k >= top_k cannot change. A query without enough features, or without an
    accepted candidate, keeps its ranking exactly, and so do those that the deadline leaves no time for: these are not complete.
    Scores: an accepted candidate's is the best global score of its query plus its evidence (number of inliers, or under
    "combined" the calibrated score); every other image keeps its own.
    Returns: the new ranking, and what was found in its order, k = min(top_k, width of the ranking).
    Raises: ValueError where the features are not of these images, or of one extractor each.
    """
    config = config or GeometricConfig()
    extractors = _extractors(ranking, query_features, gallery_features, config)
    rows, scores, width = (
        ranking.rows.copy(),
        ranking.scores.copy(),
        min(config.top_k, ranking.rows.shape[1]),
    )
    num_inliers = np.full((len(rows), width), NOT_VERIFIED, np.int32)
    accepted, calibrated = (
        np.zeros((len(rows), width), bool),
        np.zeros((len(rows), width), np.float32),
    )
    left_alone = []
    for at, head in enumerate(
        _heads(ranking, width, extractors, config, deadline or Deadline(None))
    ):
        good = head.accepted
        weights = np.where(
            good, head.scores if config.order == "combined" else head.num_inliers, -1.0
        )
        order, here = np.argsort(-weights, kind="stable"), (at, slice(len(good)))
        if good.any():
            scores[here] = np.where(good, scores[at, 0] + weights, scores[here])[order]
            rows[here] = rows[here][order]
        num_inliers[here], accepted[here], calibrated[here] = (
            head.num_inliers[order],
            good[order],
            head.scores[order],
        )
        left_alone.append(head.reason or ("" if good.any() else NOTHING_ACCEPTED))
    reached = np.arange(len(rows)) < len(left_alone)
    left_alone += [NO_TIME_LEFT] * (len(rows) - len(left_alone))
    evidence = Evidence(
        ranking.query_ids,
        rows[:, :width].copy(),
        num_inliers,
        accepted,
        calibrated,
        np.array(left_alone, str),
    )
    return reranked(ranking, rows, scores, reached, _note(config)), evidence


def pair_key(query_id: str, gallery_id: str) -> int:
    """The RANSAC key of a pair, 0 <= key < 2^63: made of the ids, so that no order and no machine changes a result."""
    digest = hashlib.blake2b(
        f"{query_id}\0{gallery_id}".encode(errors="surrogateescape"), digest_size=8
    ).digest()
    return int.from_bytes(digest, "little") >> 1


def _extractors(
    ranking: Ranking,
    query_features: LocalFeatures | Sequence[LocalFeatures],
    gallery_features: LocalFeatures | Sequence[LocalFeatures],
    config: GeometricConfig,
) -> list[_Extractor]:
    """Raises: ValueError where these are features of other images, or made by different configurations."""
    queries = (
        [query_features] if isinstance(query_features, LocalFeatures) else list(query_features)
    )
    galleries = (
        [gallery_features]
        if isinstance(gallery_features, LocalFeatures)
        else list(gallery_features)
    )
    if not queries or len(queries) != len(galleries):
        raise ValueError(
            f"one set of gallery features per set of query features. Received {len(queries)} and {len(galleries)}."
        )
    if len(config.verify) not in (1, len(queries)):
        raise ValueError(
            f"one way to verify, or one per extractor. Received {len(config.verify)} for {len(queries)} extractors."
        )
    for query, gallery in zip(queries, galleries):
        if (
            query.space != gallery.space
            or query.descriptors.shape[1] != gallery.descriptors.shape[1]
        ):
            raise ValueError(
                f"query features were made by model {query.space} ({query.descriptors.shape[1]}-D), gallery features by "
                f"{gallery.space} ({gallery.descriptors.shape[1]}-D): extract both with one model."
            )
        if len(ranking.gallery_ids) and not any(name in gallery for name in ranking.gallery_ids):
            raise ValueError(
                f"none of {len(ranking.gallery_ids)} gallery images has local features: were they extracted from others?"
            )
    ways = config.verify * (len(queries) // len(config.verify))
    return [
        _Extractor(query, gallery, lru_cache(GALLERY_IMAGES_KEPT)(gallery.of), way)
        for query, gallery, way in zip(queries, galleries, ways)
    ]


def _heads(
    ranking: Ranking,
    width: int,
    extractors: list[_Extractor],
    config: GeometricConfig,
    deadline: Deadline,
) -> Iterator[_Head]:
    """One head per query, in order, of as many queries as there is time for."""
    for block in deadline.blocks(len(ranking.query_ids), 1, what="verifying"):
        rows = ranking.rows[block.start, :width]
        yield _verified(
            str(ranking.query_ids[block.start]),
            ranking.gallery_ids[rows[rows >= 0]],
            extractors,
            config,
        )


def _verified(
    query_id: str, gallery_ids: np.ndarray, extractors: list[_Extractor], config: GeometricConfig
) -> _Head:
    num_inliers = np.full(len(gallery_ids), NOT_VERIFIED, np.int32)
    scores, accepted = np.zeros(len(gallery_ids), np.float32), np.zeros(len(gallery_ids), bool)
    found = [
        (extractor, extractor.query.of(query_id))
        for extractor in extractors
        if query_id in extractor.query
    ]
    telling = [
        (extractor, query) for extractor, query in found if len(query) >= config.min_features
    ]
    for extractor, query in telling:
        known = [
            place for place, gallery_id in enumerate(gallery_ids) if gallery_id in extractor.gallery
        ]
        images = [extractor.gallery_image(str(gallery_ids[place])) for place in known]
        keys = [pair_key(query_id, str(gallery_ids[place])) for place in known]
        for place, verification in zip(
            known, verify(query, images, keys, extractor.verify), strict=True
        ):
            num_inliers[place] = max(num_inliers[place], 0) + verification.num_inliers
            accepted[place] |= verification.accepted
            scores[place] += verification.significance
    reason = "" if telling else TOO_FEW_FEATURES if found else NO_FEATURES
    return _Head(num_inliers, scores, accepted, reason)


def _note(config: GeometricConfig) -> str:
    accepted_from = " or ".join(str(way.accepted_from) for way in config.verify)
    return (
        f"top {config.top_k} re-ranked geometrically by {config.order}, "
        f"accepted from {accepted_from} inliers"
    )
