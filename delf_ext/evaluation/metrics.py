"""Compute retrieval metrics, each with its definition, denominator, edge case and source.

All metrics derive from the places of a query's relevant images in its ranking (`Hits`). Functions
per query return float64 [Q], with NaN for a query without a relevant image in the gallery. Such
queries are left out of every mean, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from delf_ext.evaluation.hits import Hits


def average_precision(hits: Sequence[int | bool], num_relevant: int, k: int) -> float:
    """Compute the average precision at k of one query.

    Definition: the sum, over the relevant images among the first k, of the precision at their
    place.
    Denominator: min(num_relevant, k), so that a perfect ranking scores 1 at any k.
    Edge case: NaN without relevant images.
    Source: the challenge's mAP (NAVER AI Hackathon 2018); for k = the whole gallery, Manning et al.
    2008, section 8.4.

    Args:
        hits: 1 or True for each relevant image, nearest first, without junk.
        num_relevant: relevant images in the gallery.
        k: number of places that count.

    Returns:
        0 to 1, or NaN.

    Raises:
        ValueError: there are more hits than relevant images, or k is below 1.

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
    if not num_relevant:
        return float("nan")
    return _precision_sum(positions[positions < k], "step") / min(num_relevant, k)


def average_precisions(hits: Hits, k: int | None = None, interpolation: str = "step") -> np.ndarray:
    """Compute the average precision of each query; the mean is mAP, the metric of the challenge.

    Definition: as `average_precision`; with k=None over the whole ranking.
    Denominator: min(R, k), R = relevant images in the gallery; with k=None R. A relevant image that
    is not ranked adds nothing.
    Edge case: NaN if R = 0.
    Source of "trapezoid": Philbin et al. 2007, compute_ap.cpp.

    Args:
        hits: of Q queries.
        k: number of places that count; None: all.
        interpolation: "step", or "trapezoid" for the area under the precision-recall line as
            reported on Oxford and Paris: at each hit the mean of the precisions before and at it.

    Returns:
        float64 [Q], 0 to 1, or NaN.

    Raises:
        ValueError: `interpolation` is unknown, or k is below 1.

    >>> one = np.array(["q"]), (np.array([0, 2]),), np.array([2]), np.array([4]), np.array([4])
    >>> average_precisions(Hits(*one)), average_precisions(Hits(*one), k=1)
    (array([0.83333333]), array([1.]))
    >>> average_precisions(Hits(*one), interpolation="trapezoid")
    array([0.79166667])
    """
    if interpolation not in ("step", "trapezoid"):
        raise ValueError(f"interpolation must be step or trapezoid. Received {interpolation}.")
    positions = hits.positions
    num_relevant = hits.num_relevant
    if k is not None:
        _require_cut_off(k)
        positions = tuple(places[places < k] for places in positions)
        num_relevant = np.minimum(num_relevant, k)
    sums = np.array([_precision_sum(places, interpolation) for places in positions], np.float64)
    return _ratio(sums, num_relevant, hits)


def recalls_at_k(hits: Hits, k: int) -> np.ndarray:
    """Check for each query whether a relevant image is among the first k; the mean is Recall@k.

    Denominator: queries with R > 0, R = relevant images in the gallery. This is the challenge's
    Recall@k, elsewhere called hit rate or CMC; it does not divide by R.
    Edge case: NaN if R = 0.
    Source: the challenge's rules; Oh Song et al. 2016 (arXiv:1511.06452).

    Args:
        hits: of Q queries.
        k: number of places that count.

    Returns:
        float64 [Q], 0 or 1, or NaN.

    >>> one = np.array(["q"]), (np.array([1]),), np.array([3]), np.array([4]), np.array([4])
    >>> recalls_at_k(Hits(*one), 1), recalls_at_k(Hits(*one), 2)
    (array([0.]), array([1.]))
    """
    return _ratio((_num_found(hits, k) > 0).astype(np.float64), np.ones(len(hits)), hits)


def precisions_at_k(hits: Hits, k: int) -> np.ndarray:
    """Compute the share of relevant images among the first k of each query.

    Denominator: k, even if fewer than k images are ranked or relevant; then 1 cannot be reached.
    Edge case: NaN if no image is relevant.
    Source: Manning et al. 2008, section 8.4.

    Args:
        hits: of Q queries.
        k: number of places that count.

    Returns:
        float64 [Q], 0 to 1, or NaN.

    >>> one = np.array(["q"]), (np.array([0, 2]),), np.array([2]), np.array([3]), np.array([3])
    >>> precisions_at_k(Hits(*one), 5)
    array([0.4])
    """
    return _ratio(_num_found(hits, k).astype(np.float64), np.full(len(hits), k), hits)


def r_precision_maps(hits: Hits) -> np.ndarray:
    """Compute mAP@R of each query: the average precision cut off at the query's own R.

    Denominator: R = relevant images in the gallery.
    Edge case: NaN if R = 0.
    Source: Musgrave et al. 2020, "A Metric Learning Reality Check" (arXiv:2003.08505).

    Args:
        hits: of Q queries.

    Returns:
        float64 [Q], 0 to 1, or NaN.

    >>> one = np.array(["q"]), (np.array([0, 2]),), np.array([2]), np.array([4]), np.array([4])
    >>> r_precision_maps(Hits(*one))  # only the first two places count
    array([0.5])
    """
    pairs = zip(hits.positions, hits.num_relevant, strict=True)
    sums = np.array(
        [_precision_sum(positions[positions < num], "step") for positions, num in pairs], np.float64
    )
    return _ratio(sums, hits.num_relevant, hits)


def last_relevant_ranks(hits: Hits) -> np.ndarray:
    """Compute the rank at which the last relevant image of each query is found; lower is better.

    Edge cases: if the ranking ends before all are found, the number of candidates in the gallery
    (the worst possible rank); NaN without relevant images.
    Source: the evaluation of the 2018 original (NAVER AI Hackathon).

    Args:
        hits: of Q queries.

    Returns:
        float64 [Q], counted from 1, or NaN.

    >>> positions = (np.array([0, 2]), np.array([0]))
    >>> counts = np.array([2, 2]), np.array([9, 1]), np.array([9, 9])
    >>> last_relevant_ranks(Hits(np.array(["q", "cut"]), positions, *counts))
    array([3., 9.])
    """
    complete = np.array([len(positions) for positions in hits.positions]) == hits.num_relevant
    last = np.array([positions[-1] + 1 if len(positions) else 0 for positions in hits.positions])
    ranks = np.where(complete, last, hits.num_candidates).astype(np.float64)
    return _ratio(ranks, np.ones(len(hits)), hits)


def separations(hits: Hits) -> np.ndarray:
    """Compute how well relevant images are separated from the others, per query.

    It is the share of pairs of a relevant and another image of which the relevant one ranks first:
    the area under the ROC curve. It is .5 by chance, also if relevant images are near each other
    (the average precision by chance is then higher). Source: Hanley and McNeil 1982, "The meaning
    and use of the area under a receiver operating characteristic (ROC) curve".

    Args:
        hits: of whole rankings.

    Returns:
        float64 [Q]; NaN if no image or every image is relevant.
    """
    places = np.array([float(np.sum(row)) for row in hits.positions])
    least = hits.num_relevant * (hits.num_relevant - 1) / 2
    num_pairs = hits.num_relevant * (hits.num_candidates - hits.num_relevant)
    wrong = places - least
    return np.where(num_pairs > 0, 1 - wrong / np.maximum(num_pairs, 1), np.nan)


def summarize(hits: Hits, ks: Sequence[int] = (1, 5, 10)) -> Iterator[tuple[str, float]]:
    """Average each metric over the queries that have a relevant image.

    Args:
        hits: of all queries.
        ks: cut-offs of recall and precision.

    Yields:
        (name, mean) of each metric, then the number of queries that were scored, and of those
        without a relevant image.

    Raises:
        ValueError: no query has a relevant image in the gallery.
    """
    num_scored = int(np.sum(hits.num_relevant > 0))
    if not num_scored:
        raise ValueError(
            f"none of {len(hits)} queries has a relevant image in the gallery: "
            "check that they share classes."
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
    """Sum the precision at each hit, or the mean of the precisions before and at it."""
    num_before = np.arange(len(positions))
    at_hit = (num_before + 1) / (positions + 1)
    if interpolation == "step":
        return float(at_hit.sum())
    before = np.where(positions > 0, num_before / np.maximum(positions, 1), 1.0)
    return float((before + at_hit).sum() / 2)


def _ratio(numerator: np.ndarray, denominator: np.ndarray, hits: Hits) -> np.ndarray:
    """Divide per query [Q]; NaN for a query without relevant images."""
    scored = hits.num_relevant > 0
    return np.where(scored, numerator / np.where(scored, denominator, 1), np.nan)


def _num_found(hits: Hits, k: int) -> np.ndarray:
    """Count the relevant images among the first k, int64 [Q]."""
    _require_cut_off(k)
    return np.array([np.searchsorted(positions, k) for positions in hits.positions], np.int64)


def _require_cut_off(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1. Received {k}.")
