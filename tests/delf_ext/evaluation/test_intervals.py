from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from delf_ext.evaluation import intervals
from delf_ext.evaluation.intervals import (
    bootstrap_interval,
    paired_bootstrap,
    score_interval,
    statistic_interval,
)

scores = st.lists(st.floats(0, 1), min_size=1, max_size=30)
some_examples = settings(max_examples=30, deadline=None)


def slow_interval(values: list[float], seed: int, num_resamples: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(values), size=(num_resamples, len(values)))
    means = []
    for draw in draws:
        total = 0.0
        for row in draw:
            total += values[row]
        means.append(total / len(values))
    return tuple(np.percentile(means, [2.5, 97.5]))


def test_interval_equals_slow_twin() -> None:
    values = [0.0, 0.2, 0.9, 1.0, 0.35]
    assert bootstrap_interval(np.array(values), seed=3, num_resamples=500) == pytest.approx(
        slow_interval(values, 3, 500)
    )


def test_interval_of_a_biased_figure_is_moved_by_the_bias_of_its_draws() -> None:
    values = np.random.default_rng(0).random(30)

    def largest(rows: np.ndarray) -> float:
        return float(np.partition(values[rows], -5)[-5])

    rng = np.random.default_rng(4)
    draws = np.array([largest(rng.integers(0, 30, 30)) for _ in range(200)])
    low, high = np.percentile(draws, [2.5, 97.5]) + largest(np.arange(30)) - draws.mean()
    found = statistic_interval(largest, 30, seed=4, num_resamples=200)
    assert found == pytest.approx((low, min(high, 1)))
    # A mean has no bias.
    mean = statistic_interval(lambda rows: float(values[rows].mean()), 30, 4, 2000)
    assert mean == pytest.approx(bootstrap_interval(values, 4, 2000), abs=0.02)
    assert np.isnan(statistic_interval(lambda rows: float("nan"), 3)).all()


def test_batches_draw_what_one_batch_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.linspace(0, 1, 16)
    whole = bootstrap_interval(values, seed=1)
    monkeypatch.setattr(intervals, "DRAWS_PER_BATCH", 16 * 100)
    assert bootstrap_interval(values, seed=1) == whole


@some_examples
@given(scores, st.integers(0, 99))
def test_interval_holds_the_mean_and_stays_among_the_values(values: list[float], seed: int) -> None:
    low, high = bootstrap_interval(np.array(values), seed)
    assert (
        min(values) - 1e-12 <= low <= np.mean(values) + 1e-12
        and np.mean(values) - 1e-12 <= high <= max(values) + 1e-12
    )


def test_width_agrees_with_the_normal_interval() -> None:
    # For many values the percentile interval tends to mean +- 1.96 standard errors
    # (Efron and Tibshirani 1993, section 13.3).
    values = np.random.default_rng(0).random(2_000)
    low, high = bootstrap_interval(values, seed=0, num_resamples=4_000)
    error = values.std() / np.sqrt(len(values))
    assert [low, high] == pytest.approx(
        [values.mean() - 1.96 * error, values.mean() + 1.96 * error], abs=0.15 * error
    )


def test_95_of_100_intervals_hold_the_true_mean() -> None:
    samples = np.random.default_rng(1).random((200, 60))
    covered = [
        low <= 0.5 <= high
        for low, high in (bootstrap_interval(sample, num_resamples=400) for sample in samples)
    ]
    assert 0.88 <= np.mean(covered) <= 0.99


def test_nan_is_left_out() -> None:
    values = np.array([0.1, np.nan, 0.7, 0.4, np.nan])
    assert bootstrap_interval(values) == bootstrap_interval(values[~np.isnan(values)])
    assert paired_bootstrap(values, np.zeros(5)) == paired_bootstrap(values[[0, 2, 3]], np.zeros(3))


@some_examples
@given(scores, st.integers(0, 99))
def test_identical_inputs_do_not_differ(values: list[float], seed: int) -> None:
    same = paired_bootstrap(np.array(values), np.array(values), seed)
    assert (same.mean, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


@some_examples
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_swapping_the_methods_changes_the_sign(pairs: list[tuple[float, float]]) -> None:
    a, b = np.array(pairs).T
    forth = paired_bootstrap(a, b)
    back = paired_bootstrap(b, a)
    assert [forth.mean, forth.low, forth.high] == pytest.approx([-back.mean, -back.high, -back.low])
    assert forth.p_value == back.p_value and 0 < forth.p_value <= 1
    assert forth.low - 1e-12 <= forth.mean <= forth.high + 1e-12


def test_paired_test_finds_a_difference_within_the_intervals() -> None:
    rng = np.random.default_rng(2)
    before = rng.random(100)
    after = before + 0.02 + 0.02 * rng.standard_normal(100)
    gain = paired_bootstrap(after, before)
    assert bootstrap_interval(after)[0] < before.mean() < bootstrap_interval(after)[1]
    assert 0 < gain.low < gain.mean < gain.high < 0.03 and gain.p_value == pytest.approx(2 / 2001)


def test_p_value_is_rarely_small_without_a_difference() -> None:
    noise = np.random.default_rng(4).standard_normal((200, 50))
    p_values = np.array(
        [paired_bootstrap(sample, np.zeros(50), num_resamples=400).p_value for sample in noise]
    )
    assert 0.01 <= np.mean(p_values < 0.05) <= 0.12 and 0.4 <= np.mean(p_values < 0.5) <= 0.6


def test_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(5).random(40)
    assert (
        bootstrap_interval(values, seed=7)
        == bootstrap_interval(values, seed=7)
        != bootstrap_interval(values, seed=8)
    )
    assert paired_bootstrap(values, values**2, seed=7) == paired_bootstrap(
        values, values**2, seed=7
    )


def test_refusals_show_the_received_values() -> None:
    with pytest.raises(
        ValueError, match=r"at least one scored query. Received values of shape \(0,\)"
    ):
        bootstrap_interval(np.array([np.nan]))
    with pytest.raises(ValueError, match=r"same queries. Received shapes \(2,\) and \(3,\)"):
        paired_bootstrap(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r"inside \(0, 1\). Received 95"):
        bootstrap_interval(np.zeros(3), confidence=95)


@pytest.mark.parametrize("num_queries", [1, 2, 4, 8])
def test_few_queries_cannot_prove_a_difference(num_queries: int) -> None:
    # n differences of one sign come about by chance with probability 2 ** (1 - n).
    gains = np.full(num_queries, 0.1)
    assert paired_bootstrap(gains, np.zeros(num_queries)).p_value == 2.0 ** (1 - num_queries)
    # Queries without a difference prove nothing.
    more = np.append(gains, np.zeros(5))
    assert paired_bootstrap(more, np.zeros(num_queries + 5)).p_value >= 2.0 ** (1 - num_queries)


def test_too_few_queries_are_said() -> None:
    assert "over 1 query say little" in intervals.too_few_note(1)
    assert "over 9 queries say little" in intervals.too_few_note(9)
    assert intervals.too_few_note(10) == ""


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (3, 3), (0, 50), (16, 16)])
def test_interval_of_equal_shares_is_that_of_clopper_and_pearson(
    successes: int, trials: int
) -> None:
    values = np.full(trials, successes / trials)
    exact = stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert score_interval(values) == pytest.approx((exact.low, exact.high))


def test_interval_of_equal_scores_holds_them_and_shrinks() -> None:
    widths = []
    for num_queries in (1, 10, 1000):
        low, high = score_interval(np.append(np.full(num_queries, 0.25), np.nan))
        assert 0 < low < 0.25 < high < 1
        widths.append(high - low)
    assert widths[0] > 0.9 > widths[1] > 0.1 > widths[2]


def test_interval_of_different_scores_is_the_bootstrap() -> None:
    values = np.random.default_rng(6).random(20)
    assert score_interval(values, seed=3) == bootstrap_interval(values, seed=3)
