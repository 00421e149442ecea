"""Turn scores of classes into probabilities that are right as often as they say."""

from __future__ import annotations

import numpy as np

from delf_ext.evaluation.classification import Predicted

LOG_TEMPERATURES = (np.log(1e-3), np.log(1e3))
"""Bounds of the search."""


def normalized(log_scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return logarithms of probabilities.

    Args:
        log_scores: float [Q, C].
        temperature: the scores are divided by it; above 1 the probabilities become more equal.

    Returns:
        float [Q, C]; the exponentials of a row have the sum 1.
    """
    scaled = log_scores / temperature
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def first_places(table: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the largest numbers of each row, the largest first.

    Args:
        table: float [Q, C], finite.
        count: number n of places; fewer if there are fewer columns.

    Returns:
        int64 [Q, n]; of equal numbers, the first.

    >>> first_places(np.array([[0.1, 0.4, 0.1, 0.4]]), 3)
    array([[1, 3, 0]])
    """
    rest = np.array(table)
    places = np.zeros((len(rest), min(count, rest.shape[1])), np.int64)
    # A sort of all columns takes ten times as long (seen at C = 1,000).
    for place in range(places.shape[1]):
        places[:, place] = rest.argmax(axis=1)
        rest[np.arange(len(rest)), places[:, place]] = -np.inf
    return places


def fit_temperature(log_scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature of the highest likelihood, or a higher one if all answers are right.

    Q queries that are all right do not show that the next one is: the likelihood alone would make
    each probability 1. So the mean probability is at most (Q + 1) / (Q + 2).
    Sources: Guo et al., ICML 2017, arXiv:1706.04599, section 4.2; the limit is Laplace's rule of
    succession, as the targets in Platt 1999, "Probabilistic outputs for support vector machines".

    Args:
        log_scores: float [Q, C], finite.
        labels: int [Q], the true class of each query.

    Returns:
        The temperature, 0.001 to 1000; 1 without queries.
    """
    from scipy.optimize import brentq, minimize_scalar  # takes a moment to import

    if not len(labels):
        return 1.0
    scores = np.asarray(log_scores, np.float64)
    scores = scores - scores.max(axis=1, keepdims=True)
    mean_true = scores[np.arange(len(labels)), labels].mean()

    def sums(log_temperature: float) -> np.ndarray:
        return np.asarray(np.exp(scores * np.exp(-log_temperature)).sum(axis=1))

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        return float(np.mean(np.log(sums(log_temperature))) - mean_true * inverse)

    def too_sure(log_temperature: float) -> float:
        return float(np.mean(1 / sums(log_temperature))) - (len(labels) + 1) / (len(labels) + 2)

    best = float(minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded").x)
    if too_sure(best) > 0:
        highest = LOG_TEMPERATURES[1]
        best = highest if too_sure(highest) >= 0 else brentq(too_sure, best, highest)
    return float(np.exp(best))


def threshold_for(predicted: Predicted, precision: float) -> float:
    """Return from which confidence on predictions are right often enough.

    Args:
        predicted: Q predictions.
        precision: smallest share of right ones among those that are answered.

    Returns:
        The lowest confidence with which the share is reached: predictions of at least this
        confidence are answered. Infinity if no confidence reaches it.

    >>> right = Predicted(np.array([0, 1, 2]), np.array([0, 0, 2]), np.array([0.9, 0.8, 0.7]))
    >>> threshold_for(right, 0.95), threshold_for(right, 0.6)
    (0.9, 0.7)
    """
    if not len(predicted.true):
        return float("inf")
    order = np.argsort(-predicted.confidence, kind="stable")
    confidence = predicted.confidence[order]
    # Predictions of equal confidence are all answered, or none of them.
    ends = np.append(np.flatnonzero(confidence[1:] != confidence[:-1]), len(confidence) - 1)
    shares = np.cumsum(predicted.is_right[order])[ends] / (ends + 1)
    enough = np.flatnonzero(shares >= precision)
    return float(confidence[ends[enough[-1]]]) if len(enough) else float("inf")
