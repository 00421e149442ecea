"""How far a mean over queries can be trusted: bootstrap intervals, and a paired test for a difference.

The query is the unit that is drawn again: two numbers on the same queries are compared on the same draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DRAWS_PER_BLOCK = 2**20  # 8 MB of drawn rows


@dataclass(frozen=True)
class PairedDifference:
    """mean of a - b over queries; low, high: its interval; p_value: two-sided, of "there is no difference"."""

    mean: float
    low: float
    high: float
    p_value: float


def bootstrap_interval(
    values: np.ndarray, seed: int = 0, num_resamples: int = 2000, confidence: float = 0.95
) -> tuple[float, float]:
    """(low, high) of the mean of `values` [Q] by the percentile bootstrap; NaN (not scored) left out.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 13.3.
    Raises: ValueError when nothing is left, or confidence is not inside (0, 1).
    """
    values = np.asarray(values, np.float64)
    return _interval(_resampled_means(values[~np.isnan(values)], seed, num_resamples), confidence)


def paired_bootstrap(
    values_a: np.ndarray,
    values_b: np.ndarray,
    seed: int = 0,
    num_resamples: int = 2000,
    confidence: float = 0.95,
) -> PairedDifference:
    """Difference of the means of `values_a` and `values_b`, [Q] each, value i of both from the same query.

    The same queries are drawn for both. The p-value is twice the share of draws on the rarer side of zero (zero itself
    counts to both sides), one draw added, so it is never 0.
    Source: Efron and Tibshirani 1993, sections 13.3 and 15.4; the added one: Davison and Hinkley 1997, section 4.2.
    Raises: ValueError when the shapes differ or no pair is left without NaN.
    """
    values_a, values_b = np.asarray(values_a, np.float64), np.asarray(values_b, np.float64)
    if values_a.shape != values_b.shape:
        raise ValueError(
            f"paired values must be of the same queries. Received shapes {values_a.shape} and {values_b.shape}."
        )
    differences = values_a - values_b
    differences = differences[~np.isnan(differences)]
    means = _resampled_means(differences, seed, num_resamples)
    rarer_side = min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    p_value = min(1.0, 2 * (rarer_side + 1) / (num_resamples + 1))
    return PairedDifference(float(differences.mean()), *_interval(means, confidence), p_value)


def _resampled_means(values: np.ndarray, seed: int, num_resamples: int) -> np.ndarray:
    """Means of `num_resamples` draws of Q values with replacement, [num_resamples]."""
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"a bootstrap needs at least one scored query. Received values of shape {values.shape}."
        )
    rng = np.random.default_rng(seed)
    step = max(1, DRAWS_PER_BLOCK // len(values))
    blocks = [min(step, num_resamples - start) for start in range(0, num_resamples, step)]
    return np.concatenate(
        [
            values[rng.integers(len(values), size=(size, len(values)))].mean(axis=1)
            for size in blocks
        ]
    )


def _interval(means: np.ndarray, confidence: float) -> tuple[float, float]:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie inside (0, 1). Received {confidence}.")
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
