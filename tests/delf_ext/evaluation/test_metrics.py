from __future__ import annotations

import doctest
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.records import GroundTruth, Ranking
from delf_ext.evaluation import metrics
from delf_ext.evaluation.hits import Hits, concatenate, hits_of

some_examples = settings(max_examples=60, deadline=None)


def ranking_of(rows: list[list[int]], num_gallery: int) -> Ranking:
    width = max(map(len, rows))
    padded = np.array([line + [-1] * (width - len(line)) for line in rows])
    scores = np.tile(-np.arange(width, dtype=np.float32), (len(rows), 1))
    return Ranking(
        [f"q{i}" for i in range(len(rows))], [f"g{i}" for i in range(num_gallery)], padded, scores
    )


def truth_of(relevant: list[list[int]], junk: list[list[int]], num_gallery: int) -> GroundTruth:
    as_rows = [
        tuple(np.array(sorted(rows), np.int64) for rows in lists) for lists in (relevant, junk)
    ]
    return GroundTruth([f"q{i}" for i in range(len(relevant))], num_gallery, *as_rows)


def hits_from(
    *flags: list[int], num_relevant: int | None = None, num_candidates: int | None = None
) -> Hits:
    positions = tuple(np.flatnonzero(line) for line in flags)
    total = [len(found) if num_relevant is None else num_relevant for found in positions]
    depth = np.array([len(line) for line in flags])
    gallery = depth if num_candidates is None else np.full(len(flags), num_candidates)
    return Hits(
        np.array([f"q{i}" for i in range(len(flags))]), positions, np.array(total), depth, gallery
    )


@st.composite
def evaluations(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]], list[list[int]], int]:
    """Draw rows, relevant, junk and G; some rankings are cut, some queries have only junk."""
    num_gallery = draw(st.integers(1, 12))
    rows = []
    relevant = []
    junk = []
    for _ in range(draw(st.integers(1, 4))):
        roles = draw(
            st.lists(st.sampled_from("rrj..."), min_size=num_gallery, max_size=num_gallery)
        )
        rows.append(draw(st.permutations(range(num_gallery)))[: draw(st.integers(1, num_gallery))])
        relevant.append([row for row, role in enumerate(roles) if role == "r"])
        junk.append([row for row, role in enumerate(roles) if role == "j"])
    return rows, relevant, junk, num_gallery


# The definitions, one place at a time: the slow twins.


def slow_average_precision(
    line: list[int], relevant: list[int], junk: list[int], k: int | None, denominator: int
) -> float:
    if not relevant:
        return math.nan
    place = 0
    found = 0
    total = 0.0
    for row in line:
        if row in junk:
            continue
        place += 1
        if k is not None and place > k:
            break
        if row in relevant:
            found += 1
            total += found / place
    return total / denominator


def slow_trapezoid_area(line: list[int], relevant: list[int], junk: list[int]) -> float:
    """Return the area under the recall-precision line from (0, 1), as Oxford's compute_ap.cpp."""
    clean = [row for row in line if row not in junk]
    points = [(0.0, 1.0)]
    for place in range(1, len(clean) + 1):
        found = len(set(clean[:place]) & set(relevant))
        points.append((found / len(relevant), found / place))
    return sum((right[0] - left[0]) * (left[1] + right[1]) / 2 for left, right in pairwise(points))


def slow_found(line: list[int], relevant: list[int], junk: list[int], k: int) -> int:
    clean = [row for row in line if row not in junk]
    return sum(row in relevant for row in clean[:k])


def slow_last_rank(
    line: list[int], relevant: list[int], junk: list[int], num_gallery: int
) -> float:
    if not relevant:
        return math.nan
    clean = [row for row in line if row not in junk]
    if not all(row in clean for row in relevant):
        return num_gallery - len(junk)
    return max(clean.index(row) for row in relevant) + 1


@some_examples
@given(evaluations(), st.integers(1, 14))
def test_metrics_equal_slow_twins(evaluation: tuple, k: int) -> None:
    rows, relevant, junk, num_gallery = evaluation
    hits = hits_of(ranking_of(rows, num_gallery), truth_of(relevant, junk, num_gallery))
    queries = list(zip(rows, relevant, junk, strict=True))
    cut = [slow_average_precision(*query, k, min(k, len(query[1]))) for query in queries]
    full = [slow_average_precision(*query, None, len(query[1])) for query in queries]
    at_r = [slow_average_precision(*query, len(query[1]), len(query[1])) for query in queries]
    trapezoid = [slow_trapezoid_area(*query) if query[1] else math.nan for query in queries]
    found = [slow_found(*query, k) if query[1] else math.nan for query in queries]
    np.testing.assert_allclose(metrics.average_precisions(hits, k), cut)
    np.testing.assert_allclose(metrics.average_precisions(hits), full)
    np.testing.assert_allclose(metrics.r_precision_maps(hits), at_r)
    np.testing.assert_allclose(
        metrics.average_precisions(hits, interpolation="trapezoid"), trapezoid
    )
    np.testing.assert_allclose(
        metrics.recalls_at_k(hits, k), [n if math.isnan(n) else float(n > 0) for n in found]
    )
    np.testing.assert_allclose(metrics.precisions_at_k(hits, k), np.array(found) / k)
    np.testing.assert_array_equal(
        metrics.last_relevant_ranks(hits),
        [slow_last_rank(*query, num_gallery) for query in queries],
    )


@some_examples
@given(evaluations(), st.integers(1, 14))
def test_metrics_stay_in_range_and_recall_does_not_fall_with_k(evaluation: tuple, k: int) -> None:
    rows, relevant, junk, num_gallery = evaluation
    hits = hits_of(ranking_of(rows, num_gallery), truth_of(relevant, junk, num_gallery))
    scored = hits.num_relevant > 0
    for values in (
        metrics.average_precisions(hits),
        metrics.average_precisions(hits, k),
        metrics.average_precisions(hits, interpolation="trapezoid"),
        metrics.r_precision_maps(hits),
        metrics.precisions_at_k(hits, k),
    ):
        np.testing.assert_array_equal(np.isnan(values), ~scored)
        assert (values[scored] >= 0).all() and (values[scored] <= 1 + 1e-12).all()
    assert (
        metrics.recalls_at_k(hits, k + 1)[scored] >= metrics.recalls_at_k(hits, k)[scored]
    ).all()
    ranks = metrics.last_relevant_ranks(hits)[scored]
    assert (ranks >= hits.num_relevant[scored]).all() and (ranks <= num_gallery).all()


@some_examples
@given(evaluations())
def test_junk_counts_as_not_in_the_gallery(evaluation: tuple) -> None:
    rows, relevant, junk, num_gallery = evaluation
    for line, wanted, unwanted in zip(rows, relevant, junk, strict=True):
        kept = [row for row in range(num_gallery) if row not in unwanted]
        renumbered = [kept.index(row) for row in line if row in kept]
        if not renumbered:
            continue
        with_junk = hits_of(
            ranking_of([line], num_gallery), truth_of([wanted], [unwanted], num_gallery)
        )
        moved = truth_of([[kept.index(row) for row in wanted]], [[]], len(kept))
        without = hits_of(ranking_of([renumbered], len(kept)), moved)
        for name in ("num_relevant", "depth", "num_candidates"):
            np.testing.assert_array_equal(getattr(with_junk, name), getattr(without, name))
        np.testing.assert_array_equal(with_junk.positions[0], without.positions[0])


@some_examples
@given(st.integers(1, 6), st.integers(0, 8), st.integers(1, 20))
def test_perfect_ranking_scores_one_at_any_k(num_relevant: int, num_others: int, k: int) -> None:
    hits = hits_from([1] * num_relevant + [0] * num_others)
    assert metrics.average_precisions(hits, k) == pytest.approx(1)
    assert metrics.average_precisions(hits, interpolation="trapezoid") == pytest.approx(1)
    assert metrics.r_precision_maps(hits) == pytest.approx(1)
    assert metrics.last_relevant_ranks(hits) == num_relevant


@some_examples
@given(st.randoms(use_true_random=False))
def test_order_after_the_last_hit_does_not_matter(random) -> None:
    relevant = [3, 7]
    tail = [0, 1, 2, 4, 5, 6]
    truth = truth_of([relevant], [[]], 8)
    before = hits_of(ranking_of([[3, 0, 7, 1, 2, 4, 5, 6]], 8), truth)
    rest = [row for row in tail if row != 0]
    random.shuffle(rest)
    after = hits_of(ranking_of([[3, 0, 7, *rest]], 8), truth)
    assert dict(metrics.summarize(before)) == dict(metrics.summarize(after))


def test_golden_values() -> None:
    # Hand: relevant at ranks 1, 3, 6, 9, 10 of 10, R = 5: AP = (1 + 2/3 + 3/6 + 4/9 + 5/10) / 5.
    first = hits_from([1, 0, 1, 0, 0, 1, 0, 0, 1, 1])
    assert metrics.average_precisions(first)[0] == pytest.approx(
        (1 + 2 / 3 + 3 / 6 + 4 / 9 + 5 / 10) / 5
    )
    assert metrics.average_precisions(first)[0] == pytest.approx(0.6222222, abs=1e-7)
    # Hand: at k = 3 two of five are found; the denominator is min(5, 3).
    assert metrics.average_precisions(first, k=3)[0] == pytest.approx((1 + 2 / 3) / 3)
    # Musgrave et al. 2020, MAP@R by hand for R = 10: only rank 1 is right, then all ten are.
    assert metrics.r_precision_maps(hits_from([1] + [0] * 9, num_relevant=10))[0] == pytest.approx(
        0.1
    )
    assert metrics.r_precision_maps(hits_from([1] * 10))[0] == 1.0
    # ranks 1 and 10 are: (1/1 + 2/10) / 10.
    assert metrics.r_precision_maps(hits_from([1] + [0] * 8 + [1], num_relevant=10))[
        0
    ] == pytest.approx(0.12)
    # compute_ap.cpp by hand: a hit at rank 2 of R = 1: recall step 1 x (0 + 1/2) / 2.
    assert metrics.average_precisions(hits_from([0, 1]), interpolation="trapezoid")[
        0
    ] == pytest.approx(0.25)


def test_map_at_1000_divides_by_at_most_1000() -> None:
    hits = hits_from([1] * 1000, num_relevant=2000, num_candidates=5000)
    values = dict(metrics.summarize(hits))
    assert values["mAP@1000"] == pytest.approx(1.0) and values["mAP"] == pytest.approx(0.5)
    assert values["mean_last_rank"] == 5000


def test_summarize_names_and_counts() -> None:
    truth = truth_of([[0], [2], []], [[], [], []], 3)
    hits = hits_of(ranking_of([[0, 1, 2], [0, 1, 2], [0, 1, 2]], 3), truth)
    values = dict(metrics.summarize(hits, ks=(1, 3)))
    assert values == {
        "mAP": pytest.approx((1 + 1 / 3) / 2),
        "mAP@1000": pytest.approx((1 + 1 / 3) / 2),
        "recall_at_1": 0.5,
        "recall_at_3": 1.0,
        "precision_at_1": 0.5,
        "precision_at_3": pytest.approx(1 / 3),
        "mAP@R": 0.5,
        "mean_last_rank": 2.0,
        "num_queries": 2,
        "num_without_relevant": 1,
    }


def test_average_precision_equals_average_precisions() -> None:
    flags = [0, 1, 1, 0, 1, 0]
    hits = hits_from(flags, num_relevant=4)
    for k in range(1, 9):
        assert metrics.average_precision(flags, 4, k) == pytest.approx(
            metrics.average_precisions(hits, k)[0]
        )
    assert math.isnan(metrics.average_precision([0, 0], 0, 2))


@some_examples
@given(evaluations(), st.integers(0, 4))
def test_concatenated_blocks_equal_the_whole(evaluation: tuple, cut: int) -> None:
    rows, relevant, junk, num_gallery = evaluation
    whole = hits_of(ranking_of(rows, num_gallery), truth_of(relevant, junk, num_gallery))
    parts = [whole.take(np.arange(len(whole)) < cut), whole.take(np.arange(len(whole)) >= cut)]
    joined = concatenate(parts)
    np.testing.assert_array_equal(joined.query_ids, whole.query_ids)
    np.testing.assert_array_equal(
        metrics.average_precisions(joined), metrics.average_precisions(whole)
    )
    np.testing.assert_array_equal(
        metrics.last_relevant_ranks(joined), metrics.last_relevant_ranks(whole)
    )


def test_refusals_show_the_received_values() -> None:
    ranking = ranking_of([[0, 1]], 2)
    other_query = GroundTruth(["other"], 2, (np.array([0]),), (np.array([], int),))
    with pytest.raises(
        ValueError, match="same queries in the same order. Received 1 and 1 queries"
    ):
        hits_of(ranking, other_query)
    with pytest.raises(ValueError, match="one gallery. Received 2 and 3 images"):
        hits_of(ranking, truth_of([[0]], [[]], 3))
    with pytest.raises(ValueError, match="none of 1 queries has a relevant image"):
        list(metrics.summarize(hits_from([0, 0])))
    with pytest.raises(ValueError, match="k must be at least 1. Received 0"):
        metrics.recalls_at_k(hits_from([1]), 0)
    with pytest.raises(
        ValueError, match="interpolation must be step or trapezoid. Received spline"
    ):
        metrics.average_precisions(hits_from([1]), interpolation="spline")
    with pytest.raises(ValueError, match="more hits than relevant images. Received 2 and 1"):
        metrics.average_precision([1, 1], num_relevant=1, k=2)
    with pytest.raises(ValueError, match="must not share a query"):
        concatenate([hits_from([1]), hits_from([1])])
    with pytest.raises(ValueError, match="at least one block"):
        concatenate([])
    with pytest.raises(
        ValueError, match=r"one entry per query in every field. Received lengths \[1, 2\]"
    ):
        Hits(np.array(["a", "b"]), (np.array([0]),), np.array([1]), np.array([1]), np.array([1]))


def test_docstring_examples_run() -> None:
    result = doctest.testmod(metrics)
    assert result.attempted >= 6 and result.failed == 0


def test_separation_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    flags = [row.tolist() for row in rng.random((6, 9)) < 0.4] + [[0] * 9, [1] * 9]
    expected = []
    for line in flags:
        pairs = [a < b for a in range(9) for b in range(9) if line[a] and not line[b]]
        expected.append(np.mean(pairs) if pairs else np.nan)
    np.testing.assert_allclose(metrics.separations(hits_from(*flags)), expected)
