"""Test the metrics of classification against values by hand, and against slow versions."""

from __future__ import annotations

import numpy as np
import pytest

from delf_ext.evaluation.calibration import (
    first_places,
    fit_temperature,
    normalized,
    threshold_for,
)
from delf_ext.evaluation.classification import (
    Confusion,
    Predicted,
    accuracy,
    confusions,
    expected_calibration_error,
    global_average_precision,
    macro_f1,
    reliability,
    summarize,
)

# Six queries of the classes 0, 0, 0, 1, 1, 2.
GOLDEN = Predicted(
    true=np.array([0, 0, 0, 1, 1, 2]),
    label=np.array([0, 0, 1, 1, 3, 0]),
    confidence=np.array([0.9, 0.5, 0.8, 0.5, 0.3, 0.6]),
)


def random_predictions(seed: int, number: int = 200) -> Predicted:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, 9, number)
    # -1: a photograph whose embedding failed.
    label = np.where(rng.random(number) < 0.6, true, rng.integers(-1, 9, number))
    return Predicted(true, label, np.round(rng.random(number), 2))


def test_golden_values_by_hand() -> None:
    assert accuracy(GOLDEN) == 3 / 6
    # Class 0: 2 * 2 / (3 + 3); 1: 2 * 1 / (2 + 2); 2: 0; 3: 0 (predicted, never true).
    assert macro_f1(GOLDEN) == pytest.approx((2 / 3 + 1 / 2 + 0 + 0) / 4)
    # In order: right (.9), wrong (.8), wrong (.6), then two right ones at .5 as one group.
    assert global_average_precision(GOLDEN) == pytest.approx((1 / 1 + 2 * 3 / 5) / 6)
    assert global_average_precision(GOLDEN, num_findable=4) == pytest.approx((1 + 6 / 5) / 4)
    # Bins of 1/15: .9, .8 and .3 alone; .5 twice; .6 alone.
    expected = (abs(1 - 0.9) + abs(0 - 0.8) + abs(0 - 0.3) + 2 * abs(1 - 0.5) + abs(0 - 0.6)) / 6
    assert expected_calibration_error(GOLDEN) == pytest.approx(expected)
    assert dict(summarize(GOLDEN)).keys() == {"accuracy", "macro_f1", "gap", "ece"}


@pytest.mark.parametrize("seed", range(5))
def test_fast_versions_agree_with_slow_ones(seed: int) -> None:
    predicted = random_predictions(seed)
    true, label, confidence = predicted
    f1 = []
    for one in sorted({*true.tolist(), *label.tolist()}):
        num_right = sum((true == one) & (label == one))
        f1.append(2 * num_right / (sum(true == one) + sum(label == one)))
    assert macro_f1(predicted) == pytest.approx(np.mean(f1))
    gap = 0.0
    for place in np.flatnonzero(predicted.is_right):
        before = confidence >= confidence[place]
        gap += predicted.is_right[before].mean()
    assert global_average_precision(predicted) == pytest.approx(gap / len(true))
    ece = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = (confidence > low) & (confidence <= high) | ((number == 0) & (confidence == 0))
        if inside.any():
            gap = abs(predicted.is_right[inside].mean() - confidence[inside].mean())
            ece += inside.mean() * gap
    assert expected_calibration_error(predicted) == pytest.approx(ece)


def test_first_places_are_those_of_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    for num_classes in (1, 2, 9):
        table = rng.integers(0, 4, (50, num_classes)).astype(float)
        before = table.copy()
        expected = np.argsort(-table, axis=1, kind="stable")[:, :3]
        np.testing.assert_array_equal(first_places(table, 3), expected)
        np.testing.assert_array_equal(table, before)


def test_order_of_queries_does_not_matter() -> None:
    predicted = random_predictions(7)
    shuffled = predicted.take(np.random.default_rng(0).permutation(len(predicted.true)))
    expected = dict(summarize(predicted))
    assert dict(summarize(shuffled)) == pytest.approx(expected)


def test_edges_of_confidence_have_a_bin() -> None:
    predicted = Predicted(np.zeros(3, int), np.zeros(3, int), np.array([0.0, 1.0, 1 / 15]))
    assert [(one.low, one.number) for one in reliability(predicted)] == [
        (0.0, 2),
        (pytest.approx(14 / 15), 1),
    ]


def test_nothing_to_measure_is_not_a_number() -> None:
    nothing = Predicted(np.zeros(0, int), np.zeros(0, int), np.zeros(0))
    assert all(np.isnan(value) for _, value in summarize(nothing))
    assert np.isnan(global_average_precision(GOLDEN, num_findable=0))
    assert threshold_for(nothing, 0.9) == np.inf and confusions(nothing) == []


def test_confusions_are_counted_worst_first() -> None:
    assert confusions(GOLDEN) == [
        Confusion(0, 1, 1, 3),
        Confusion(1, 3, 1, 2),
        Confusion(2, 0, 1, 1),
    ]


def test_temperature_of_drawn_labels_is_found_again() -> None:
    """Labels that are drawn from softmax(scores / 2.5) are best explained by that temperature."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 4, (20_000, 5))
    probabilities = np.exp(normalized(scores, 2.5))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    draws = rng.random((len(scores), 1)) > np.cumsum(probabilities, axis=1)
    labels = draws.sum(axis=1).clip(max=4)
    assert fit_temperature(scores, labels) == pytest.approx(2.5, rel=0.05)
    confidence = probabilities.max(axis=1)
    predicted = Predicted(labels, scores.argmax(axis=1), confidence)
    too_sure = Predicted(labels, scores.argmax(axis=1), np.exp(normalized(scores)).max(axis=1))
    assert expected_calibration_error(predicted) < 0.02 < expected_calibration_error(too_sure)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 200.0])
def test_few_queries_that_are_all_right_do_not_make_the_next_one_certain(scale: float) -> None:
    scores = scale * np.eye(4)[np.arange(24) % 4]
    temperature = fit_temperature(scores, np.arange(24) % 4)
    confidence = np.exp(normalized(scores, temperature).max(axis=1))
    # Platt's target for 24 right answers.
    np.testing.assert_allclose(confidence, 25 / 26, atol=1e-3)


def test_threshold_answers_as_many_as_the_precision_allows() -> None:
    predicted = random_predictions(3)
    for precision in (0.5, 0.7, 0.9):
        threshold = threshold_for(predicted, precision)
        allowed = [
            value
            for value in np.unique(predicted.confidence)
            if predicted.is_right[predicted.confidence >= value].mean() >= precision
        ]
        assert threshold == (min(allowed) if allowed else np.inf)
