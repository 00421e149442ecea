"""Measure how well the classes of images are predicted, and how well probabilities are.

All functions take one prediction for each query: the class that is most probable. A query whose
class is not among those that can be predicted is always wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

NUM_BINS = 15
"""Bins of `expected_calibration_error`, as in Guo et al. 2017."""


class Predicted(NamedTuple):
    """Predictions for labelled queries.

    Attributes:
        true: int [Q], the class of each query.
        label: int [Q], the predicted class.
        confidence: float [Q], its probability.
    """

    true: np.ndarray
    label: np.ndarray
    confidence: np.ndarray

    @property
    def is_right(self) -> np.ndarray:
        """Which predictions are right, bool [Q]."""
        return self.true == self.label

    def take(self, rows: np.ndarray) -> Predicted:
        """Return some of the predictions.

        Args:
            rows: int [n], or a mask bool [Q].

        Returns:
            The predictions of these queries.
        """
        return Predicted(self.true[rows], self.label[rows], self.confidence[rows])


def accuracy(predicted: Predicted) -> float:
    """Return the share of queries whose predicted class is right; NaN without queries."""
    return float(np.mean(predicted.is_right)) if len(predicted.true) else float("nan")


def macro_f1(predicted: Predicted) -> float:
    """Return the mean F1 of all classes that are true or predicted for at least one query.

    F1 = 2 * right / (queries of the class + predictions of the class). A class that is predicted
    but is true for no query has F1 = 0.
    Source: sklearn.metrics.f1_score(average="macro"), which has the same set of classes.

    Args:
        predicted: Q predictions.

    Returns:
        0 to 1; NaN without queries.

    >>> macro_f1(Predicted(np.array([0, 0, 1]), np.array([0, 1, 1]), np.ones(3)))
    0.6666666666666666
    """
    if not len(predicted.true):
        return float("nan")
    codes = np.concatenate([predicted.true, predicted.label])
    codes = codes - codes.min()
    numbers = np.bincount(codes)
    num_right = np.bincount(codes[: len(codes) // 2][predicted.is_right], minlength=len(numbers))
    seen = numbers > 0
    return float(np.mean(2 * num_right[seen] / numbers[seen]))


def global_average_precision(predicted: Predicted, num_findable: int | None = None) -> float:
    """Return the average precision of all predictions in one list, the most confident first.

    GAP = 1 / M * sum over the right predictions of the precision up to them, with M = number of
    queries that have a right answer. Predictions of equal confidence count together: each has the
    precision at the end of their group, so their order does not matter.
    Sources: Perronnin et al., CVPR 2009 (micro-AP); Google Landmark Recognition on Kaggle. The rule
    for equal ones is that of sklearn.metrics.average_precision_score.

    Args:
        predicted: Q predictions.
        num_findable: M; None = all queries.

    Returns:
        0 to 1; NaN if M is 0.

    >>> right = Predicted(np.array([0, 1, 2]), np.array([0, 0, 2]), np.array([0.9, 0.8, 0.7]))
    >>> round(global_average_precision(right), 4)  # (1 + 2 / 3) / 3
    0.5556
    """
    number = len(predicted.true) if num_findable is None else num_findable
    if not number:
        return float("nan")
    order = np.argsort(-predicted.confidence, kind="stable")
    confidence = predicted.confidence[order]
    is_right = predicted.is_right[order]
    ends = _group_ends(confidence)
    num_right = np.cumsum(is_right)[ends]
    gains = np.diff(num_right, prepend=0)
    return float(np.sum(gains * num_right / (ends + 1)) / number)


def _group_ends(values: np.ndarray) -> np.ndarray:
    """Return the last place of each group of equal values in a sorted array, int [n]."""
    return np.append(np.flatnonzero(values[1:] != values[:-1]), len(values) - 1)


class Bin(NamedTuple):
    """Predictions of similar confidence.

    Attributes:
        low: lower end of the bin, which is not in it (but 0 is in the first one).
        high: upper end.
        number: number of predictions.
        accuracy: share of right ones.
        confidence: mean of their confidence.
    """

    low: float
    high: float
    number: int
    accuracy: float
    confidence: float


def reliability(predicted: Predicted, num_bins: int = NUM_BINS) -> Iterator[Bin]:
    """Yield the bins of a reliability diagram that hold a prediction.

    Args:
        predicted: Q predictions, with confidences from 0 to 1.
        num_bins: number of bins of equal width.

    Yields:
        The bins, lowest confidence first.
    """
    edges = np.linspace(0, 1, num_bins + 1)
    bins = _bins(predicted, num_bins)
    for number in np.unique(bins):
        part = predicted.take(bins == number)
        low, high = edges[number : number + 2].tolist()
        yield Bin(low, high, len(part.true), accuracy(part), float(part.confidence.mean()))


def _bins(predicted: Predicted, num_bins: int) -> np.ndarray:
    """Return the bin of each prediction, int [Q]."""
    edges = np.linspace(0, 1, num_bins + 1)
    places = np.searchsorted(edges, predicted.confidence, side="left") - 1
    return np.clip(places, 0, num_bins - 1)


def expected_calibration_error(predicted: Predicted, num_bins: int = NUM_BINS) -> float:
    """Return the mean distance of confidence and accuracy.

    ECE = sum over the bins of (predictions in the bin / Q) * |accuracy - mean confidence|, with
    bins (low, high] of equal width.
    Source: Guo et al., ICML 2017, arXiv:1706.04599, equation 3.

    Args:
        predicted: Q predictions, with confidences from 0 to 1.
        num_bins: number of bins.

    Returns:
        0 to 1; NaN without queries.
    """
    if not len(predicted.true):
        return float("nan")
    # A bootstrap calls this thousands of times: the same as a sum over `reliability`, but faster.
    gaps = np.bincount(_bins(predicted, num_bins), predicted.is_right - predicted.confidence)
    return float(np.abs(gaps).sum() / len(predicted.true))


def summarize(predicted: Predicted, num_findable: int | None = None) -> Iterator[tuple[str, float]]:
    """Yield (name, value) of each metric.

    Args:
        predicted: Q predictions.
        num_findable: number of queries whose class can be predicted; None = all.

    Yields:
        accuracy, macro_f1, gap and ece.
    """
    yield "accuracy", accuracy(predicted)
    yield "macro_f1", macro_f1(predicted)
    yield "gap", global_average_precision(predicted, num_findable)
    yield "ece", expected_calibration_error(predicted)


class Confusion(NamedTuple):
    """Queries of one class that were given another.

    Attributes:
        true: the class of the queries.
        label: the class that was predicted.
        number: number of such queries.
        num_true: number of queries of the class.
    """

    true: int
    label: int
    number: int
    num_true: int


def confusions(predicted: Predicted) -> list[Confusion]:
    """Return which classes are mistaken for which, most queries first; ties by class number."""
    wrong = predicted.take(~predicted.is_right)
    pairs, numbers = np.unique(
        np.stack([wrong.true, wrong.label]).astype(np.int64), axis=1, return_counts=True
    )
    num_true = dict(zip(*(one.tolist() for one in np.unique(predicted.true, return_counts=True))))
    found = [
        Confusion(int(true), int(label), int(number), num_true[int(true)])
        for true, label, number in zip(*pairs, numbers)
    ]
    return sorted(found, key=lambda one: (-one.number, one.true, one.label))
