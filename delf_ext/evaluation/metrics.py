"""Retrieval metrics, each with its definition, denominator, edge case and source.

All of them derive from the places at which a query's relevant images appear (`Hits`). Per-query functions return [Q] float64
with NaN for a query that has no relevant image in the gallery: such queries are left out of every mean, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_io.records import GroundTruth, Ranking

RELEVANT, JUNK = 1, 2


@dataclass(frozen=True, eq=False)
class Hits:
    """Where the relevant images of each query stand. Junk is taken out before anything is counted.

    query_ids [Q] str; positions: per query the 0-based places of the relevant images found, ascending int64;
    num_relevant [Q]: relevant images in the gallery, found or not; depth [Q]: images ranked; num_candidates [Q]: images in
    the gallery. The last two without junk; depth is below num_candidates where the ranking was cut.
    """

    query_ids: np.ndarray
    positions: tuple[np.ndarray, ...]
    num_relevant: np.ndarray
    depth: np.ndarray
    num_candidates: np.ndarray

    def __post_init__(self) -> None:
        lengths = {
            len(getattr(self, name))
            for name in ("query_ids", "positions", "num_relevant", "depth", "num_candidates")
        }
        if len(lengths) != 1:
            raise ValueError(
                f"hits must have one entry per query in every field. Received lengths {sorted(lengths)}."
            )

    def __len__(self) -> int:
        return len(self.query_ids)

    def take(self, rows: Sequence[int] | np.ndarray) -> Hits:
        """The queries of the given rows (ints or a bool mask), in that order."""
        chosen = np.arange(len(self))[np.asarray(rows)]
        positions = tuple(self.positions[row] for row in chosen)
        return Hits(
            self.query_ids[chosen],
            positions,
            self.num_relevant[chosen],
            self.depth[chosen],
            self.num_candidates[chosen],
        )


def hits_of(ranking: Ranking, truth: GroundTruth) -> Hits:
    """The hits of a ranking, or of a block of one (then with the truth of the same queries).

    Raises: ValueError when query ids or the size of the gallery differ.
    """
    if len(ranking.query_ids) != len(truth) or (ranking.query_ids != truth.query_ids).any():
        raise ValueError(
            f"ranking and ground truth must have the same queries in the same order. "
            f"Received {len(ranking.query_ids)} and {len(truth)} queries."
        )
    if len(ranking.gallery_ids) != truth.num_gallery:
        raise ValueError(
            f"ranking and ground truth must have one gallery. Received {len(ranking.gallery_ids)} and {truth.num_gallery} images."
        )
    role = np.zeros(truth.num_gallery, np.int8)
    positions, depth = [], np.zeros(len(truth), np.int64)
    for query, (relevant, junk) in enumerate(zip(truth.relevant, truth.junk, strict=True)):
        role[relevant], role[junk] = RELEVANT, JUNK
        ranked = role[ranking.rows[query][ranking.rows[query] >= 0]]
        ranked = ranked[ranked != JUNK]
        positions.append(np.flatnonzero(ranked == RELEVANT))
        depth[query] = len(ranked)
        role[relevant] = role[junk] = 0
    num_relevant = np.array([len(rows) for rows in truth.relevant], np.int64)
    num_candidates = truth.num_gallery - np.array([len(rows) for rows in truth.junk], np.int64)
    return Hits(truth.query_ids, tuple(positions), num_relevant, depth, num_candidates)


def concatenate(blocks: Sequence[Hits]) -> Hits:
    """The hits of several blocks of queries as one. Raises: ValueError on no block, or on a query that comes twice."""
    if not blocks:
        raise ValueError("concatenate needs at least one block of hits.")
    query_ids = np.concatenate([block.query_ids for block in blocks])
    if len(np.unique(query_ids)) != len(query_ids):
        raise ValueError("blocks of hits must not share a query.")
    return Hits(
        query_ids,
        tuple(positions for block in blocks for positions in block.positions),
        np.concatenate([block.num_relevant for block in blocks]),
        np.concatenate([block.depth for block in blocks]),
        np.concatenate([block.num_candidates for block in blocks]),
    )


def average_precision(hits: Sequence[int | bool], num_relevant: int, k: int) -> float:
    """Average precision at k of one query.

    Definition: the sum, over the relevant images among the first k, of the precision at their place.
    Denominator: min(num_relevant, k), so that a perfect ranking scores 1 at any k. Edge case: NaN without relevant images.
    Source: the challenge's mAP (NAVER AI Hackathon 2018); Manning et al. 2008, section 8.4, for k = the whole gallery.
    hits: 1 or True where the image at that place is relevant, nearest first, junk taken out.

    >>> average_precision([1, 0, 0, 0, 0], num_relevant=10, k=5)
    0.2
    >>> average_precision([1, 0, 1, 0], num_relevant=2, k=4)  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    _require_cut_off(k)
    positions = np.flatnonzero(np.asarray(hits, bool))
    if len(positions) > num_relevant:
        raise ValueError(
            f"more hits than relevant images. Received {len(positions)} and {num_relevant}."
        )
    return (
        _precision_sum(positions[positions < k], "step") / min(num_relevant, k)
        if num_relevant
        else float("nan")
    )


def average_precisions(hits: Hits, k: int | None = None, interpolation: str = "step") -> np.ndarray:
    """Average precision of each query, [Q]; its mean is mAP, the metric of the challenge.

    Definition: as `average_precision`; with `k=None` over the ranking as it came.
    Denominator: min(R, k), with `k=None` R, the relevant images in the gallery; one that was never ranked adds nothing.
    Edge case: NaN where R = 0.
    interpolation: "step", or "trapezoid" for the area under the precision-recall line as Oxford and Paris report it: at each
    hit the mean of the precisions just before and at it. Source: Philbin et al. 2007, compute_ap.cpp.

    >>> hits = Hits(np.array(["q"]), (np.array([0, 2]),), np.array([2]), np.array([4]), np.array([4]))
    >>> average_precisions(hits), average_precisions(hits, k=1), average_precisions(hits, interpolation="trapezoid")
    (array([0.83333333]), array([1.]), array([0.79166667]))
    """
    if interpolation not in ("step", "trapezoid"):
        raise ValueError(f"interpolation must be step or trapezoid. Received {interpolation}.")
    if k is not None:
        _require_cut_off(k)
    found = (
        hits.positions if k is None else [positions[positions < k] for positions in hits.positions]
    )
    sums = np.array([_precision_sum(positions, interpolation) for positions in found], np.float64)
    return _ratio(sums, hits.num_relevant if k is None else np.minimum(hits.num_relevant, k), hits)


def recalls_at_k(hits: Hits, k: int) -> np.ndarray:
    """1 for each query with at least one relevant image among the first k, else 0, [Q]; its mean is Recall@k.

    Denominator: queries with R > 0 (not R: this is the challenge's Recall@k, elsewhere called hit rate or CMC).
    Edge case: NaN where R = 0. Source: the challenge's rules; Oh Song et al. 2016 (arXiv:1511.06452).

    >>> hits = Hits(np.array(["q"]), (np.array([1]),), np.array([3]), np.array([4]), np.array([4]))
    >>> recalls_at_k(hits, 1), recalls_at_k(hits, 2)
    (array([0.]), array([1.]))
    """
    return _ratio((_found_at(hits, k) > 0).astype(np.float64), np.ones(len(hits)), hits)


def precisions_at_k(hits: Hits, k: int) -> np.ndarray:
    """Share of relevant images among the first k of each query, [Q].

    Denominator: k, also where fewer than k images are ranked or relevant: 1 is then out of reach.
    Edge case: NaN where R = 0. Source: Manning et al. 2008, section 8.4.

    >>> hits = Hits(np.array(["q"]), (np.array([0, 2]),), np.array([2]), np.array([3]), np.array([3]))
    >>> precisions_at_k(hits, 5)
    array([0.4])
    """
    return _ratio(_found_at(hits, k).astype(np.float64), np.full(len(hits), k), hits)


def r_precision_maps(hits: Hits) -> np.ndarray:
    """mAP@R of each query, [Q]: average precision cut off at the query's own R.

    Denominator: R. Edge case: NaN where R = 0.
    Source: Musgrave et al. 2020, "A Metric Learning Reality Check" (arXiv:2003.08505).

    >>> hits = Hits(np.array(["q"]), (np.array([0, 2]),), np.array([2]), np.array([4]), np.array([4]))
    >>> r_precision_maps(hits)  # only the first two places count
    array([0.5])
    """
    pairs = zip(hits.positions, hits.num_relevant, strict=True)
    sums = np.array(
        [_precision_sum(positions[positions < num], "step") for positions, num in pairs], np.float64
    )
    return _ratio(sums, hits.num_relevant, hits)


def last_relevant_ranks(hits: Hits) -> np.ndarray:
    """Rank, counted from 1, at which the last relevant image of each query has been found, [Q]; lower is better.

    Edge cases: where the ranking ends before all were found, the number of candidates in the gallery (the worst rank there
    is); NaN where R = 0. Source: the evaluation of the original (mandoo, NAVER AI Hackathon 2018).

    >>> positions = (np.array([0, 2]), np.array([0]))
    >>> hits = Hits(np.array(["q", "cut"]), positions, np.array([2, 2]), np.array([9, 1]), np.array([9, 9]))
    >>> last_relevant_ranks(hits)
    array([3., 9.])
    """
    complete = np.array([len(positions) for positions in hits.positions]) == hits.num_relevant
    last = np.array([positions[-1] + 1 if len(positions) else 0 for positions in hits.positions])
    return _ratio(
        np.where(complete, last, hits.num_candidates).astype(np.float64), np.ones(len(hits)), hits
    )


def summarize(hits: Hits, ks: Sequence[int] = (1, 5, 10)) -> Iterator[tuple[str, float]]:
    """Yields (name, mean over the queries that have a relevant image), then how many those are and how many were left out.

    Raises: ValueError when no query has a relevant image in the gallery.
    """
    num_scored = int(np.sum(hits.num_relevant > 0))
    if not num_scored:
        raise ValueError(
            f"none of {len(hits)} queries has a relevant image in the gallery: check that they share classes."
        )
    yield "mAP", _mean(average_precisions(hits))
    yield "mAP@1000", _mean(average_precisions(hits, k=1000))
    for k in ks:
        yield f"recall_at_{k}", _mean(recalls_at_k(hits, k))
    for k in ks:
        yield f"precision_at_{k}", _mean(precisions_at_k(hits, k))
    yield "mAP@R", _mean(r_precision_maps(hits))
    yield "mean_last_rank", _mean(last_relevant_ranks(hits))
    yield "num_queries", num_scored
    yield "num_without_relevant", len(hits) - num_scored


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values))


def _precision_sum(positions: np.ndarray, interpolation: str) -> float:
    """Sum over the hits of the precision at the hit, or of the mean of the precisions before and at it."""
    found = np.arange(len(positions))
    at_hit = (found + 1) / (positions + 1)
    if interpolation == "step":
        return float(at_hit.sum())
    before = np.where(positions > 0, found / np.maximum(positions, 1), 1.0)
    return float((before + at_hit).sum() / 2)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, hits: Hits) -> np.ndarray:
    """[Q] numerator / denominator; NaN where the query has no relevant image."""
    scored = hits.num_relevant > 0
    return np.where(scored, numerator / np.where(scored, denominator, 1), np.nan)


def _found_at(hits: Hits, k: int) -> np.ndarray:
    _require_cut_off(k)
    return np.array([np.searchsorted(positions, k) for positions in hits.positions], np.int64)


def _require_cut_off(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1. Received {k}.")
