"""Measure how far a mean over queries can be trusted: bootstrap intervals and a paired test.

The query is the unit that is drawn again. Two methods on the same queries are compared on the same
draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

DRAWS_PER_BATCH = 2**20  # 8 MB of drawn rows
# Draws of fewer values are too much alike: the interval is then clearly too narrow.
ENOUGH_QUERIES = 10


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of two methods over the same queries.

    Attributes:
        mean: of a - b.
        low: lower end of the interval of the mean.
        high: upper end of the interval of the mean.
        p_value: two-sided, of the hypothesis that there is no difference.
    """

    mean: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(
    values: np.ndarray, seed: int = 0, num_resamples: int = 2000, confidence: float = 0.95
) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of a mean.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.

    Args:
        values: float [Q], one per query; NaN (not scored) is left out.
        seed: of the draws.
        num_resamples: how often Q values are drawn.
        confidence: coverage of the interval, inside (0, 1).

    Returns:
        Lower and upper end.

    Raises:
        ValueError: no value is left, or `confidence` is out of range.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    interval = _bootstrap(values, seed, num_resamples, confidence).confidence_interval
    return float(interval.low), float(interval.high)


def score_interval(
    values: np.ndarray, seed: int = 0, num_resamples: int = 2000, confidence: float = 0.95
) -> tuple[float, float]:
    """Compute the interval of a mean of scores from 0 to 1: a bootstrap, or exact if all are equal.

    Q equal scores show no spread, so all draws are the same, as if the mean were certain. But a
    share of up to 1 - (alpha / 2)**(1 / Q) of all queries may have another score without being
    among the Q; the interval holds the means that they can bring about. If the scores are 0 or 1,
    this is the interval of Clopper and Pearson 1934 (Biometrika 26).

    Args:
        values: float [Q] from 0 to 1, one per query; NaN (not scored) is left out.
        seed: of the draws.
        num_resamples: how often Q values are drawn.
        confidence: coverage of the interval, inside (0, 1).

    Returns:
        Lower and upper end.

    >>> [round(end, 4) for end in score_interval(np.ones(16))]
    [0.7941, 1.0]
    """
    low, high = bootstrap_interval(values, seed, num_resamples, confidence)
    scores = np.asarray(values, np.float64)
    scores = scores[~np.isnan(scores)]
    score = float(scores[0])
    if np.ptp(scores) > 0:
        return low, high
    unseen = 1 - ((1 - confidence) / 2) ** (1 / len(scores))
    return score * (1 - unseen), score + (1 - score) * unseen


def statistic_interval(
    statistic: Callable[[np.ndarray], float],
    num_queries: int,
    seed: int = 0,
    num_resamples: int = 1000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Compute the bootstrap interval of a figure that is no mean over queries.

    The draws of a figure such as macro F1 or ECE are too low or too high: a draw has fewer
    different queries. So the percentile interval is moved by the difference of the figure and the
    mean of its draws. (Seen with 300 drawn queries of 40 classes: the 95 % interval of macro F1
    covers the true value in .92 of the cases, without that in .81; of ECE in .85 and .47.)
    Source: Efron and Tibshirani 1993, sections 13.3 (percentiles) and 10.2 (bias).

    Args:
        statistic: takes rows int [Q] of the drawn queries, and returns the figure, 0 to 1.
        num_queries: number Q of queries.
        seed: of the draws.
        num_resamples: how often Q queries are drawn; a draw whose figure is NaN is left out.
        confidence: coverage of the interval.

    Returns:
        Lower and upper end; NaN if the figure of every draw is NaN.
    """
    rng = np.random.default_rng(seed)
    values = np.array(
        [statistic(rng.integers(0, num_queries, num_queries)) for _ in range(num_resamples)]
    )
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    bias = values.mean() - statistic(np.arange(num_queries))
    ends = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2]) - bias
    low, high = np.clip(ends, 0, 1).tolist()
    return low, high


def paired_bootstrap(
    values_a: np.ndarray,
    values_b: np.ndarray,
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> PairedDifference:
    """Compute the difference of two means over the same queries, its interval and its p-value.

    p = 2 * min(share of draws <= 0, share of draws >= 0), with one draw added, so p is never 0.
    It is at least 2**(1 - n), where n queries differ: n differences of one sign come about by
    chance with this probability, but all their draws have that sign too.
    Sources: Efron and Tibshirani 1993, sections 13.3 and 15.4; the added draw: Davison and Hinkley
    1997, section 4.2; the least p of n signs: Fisher 1935, "The Design of Experiments".

    Args:
        values_a: float [Q], one per query; a query that is NaN in either is left out.
        values_b: float [Q], of the same queries.
        seed: of the draws.
        num_resamples: how often Q differences are drawn.
        confidence: coverage of the interval, inside (0, 1).

    Returns:
        The difference a - b.

    Raises:
        ValueError: the shapes differ, no pair is left, or `confidence` is out of range.
    """
    values_a = np.asarray(values_a, np.float64)
    values_b = np.asarray(values_b, np.float64)
    if values_a.shape != values_b.shape:
        raise ValueError(
            "paired values must be of the same queries. "
            f"Received shapes {values_a.shape} and {values_b.shape}."
        )
    differences = values_a - values_b
    differences = differences[~np.isnan(differences)]
    result = _bootstrap(differences, seed, num_resamples, confidence)
    means = result.bootstrap_distribution
    rarer_side = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    num_different = int(np.count_nonzero(differences))
    p_value = max(2 * (rarer_side + 1) / (num_resamples + 1), 2.0 ** (1 - num_different))
    return PairedDifference(
        mean=float(differences.mean()),
        low=float(result.confidence_interval.low),
        high=float(result.confidence_interval.high),
        p_value=min(1.0, p_value),
    )


def too_few_note(num_queries: int) -> str:
    """Return a warning if an interval over so few queries means little, else "".

    >>> too_few_note(300)
    ''
    """
    if num_queries >= ENOUGH_QUERIES:
        return ""
    return (
        f"intervals over {num_queries} {'query' if num_queries == 1 else 'queries'} say little: "
        f"measure at least {ENOUGH_QUERIES}."
    )


def _bootstrap(values: np.ndarray, seed: int, num_resamples: int, confidence: float) -> Any:
    from scipy.stats import bootstrap  # takes half a second to import

    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"a bootstrap needs at least one scored query. Received values of shape {values.shape}."
        )
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be inside (0, 1). Received {confidence}.")
    if len(values) == 1:
        values = np.repeat(values, 2)  # SciPy refuses one value; its interval is a point
    return bootstrap(
        (values,),
        np.mean,
        n_resamples=num_resamples,
        batch=max(1, DRAWS_PER_BATCH // len(values)),
        confidence_level=confidence,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
