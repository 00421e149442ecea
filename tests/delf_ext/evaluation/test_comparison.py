from __future__ import annotations

import numpy as np
import pytest

from delf_ext.evaluation.comparison import Evaluated, common_hits, compare, format_table
from delf_ext.evaluation.hits import Hits
from delf_ext.evaluation.intervals import bootstrap_interval, paired_bootstrap
from delf_ext.evaluation.metrics import average_precisions, last_relevant_ranks, recalls_at_k

NUM_GALLERY = 20


def hits_at(
    positions: list[list[int]], query_ids: list[str] | None = None, num_relevant: int = 2
) -> Hits:
    num_queries = len(positions)
    ids = query_ids or [f"q{row}" for row in range(num_queries)]
    relevant = np.array([num_relevant if places else 0 for places in positions])
    gallery = np.full(num_queries, NUM_GALLERY)
    return Hits(
        np.array(ids),
        tuple(np.array(places, int) for places in positions),
        relevant,
        gallery,
        gallery,
    )


def random_hits(seed: int, num_queries: int = 30) -> Hits:
    rng = np.random.default_rng(seed)
    return hits_at(
        [sorted(rng.choice(NUM_GALLERY, 2, replace=False).tolist()) for _ in range(num_queries)]
    )


def test_rows_hold_the_metrics_and_the_paired_difference() -> None:
    first = random_hits(0)
    second = random_hits(1)
    rows = compare([Evaluated("first", first), Evaluated("second", second, num_skipped=3)], seed=5)
    a = average_precisions(first)
    b = average_precisions(second)
    assert [row.name for row in rows] == ["first", "second"]
    assert rows[1].mean_average_precision == pytest.approx(b.mean()) and rows[
        1
    ].map_interval == bootstrap_interval(b, 5)
    assert rows[1].recall_interval == bootstrap_interval(recalls_at_k(second, 1), 5)
    assert [rows[1].recall_at_5, rows[1].recall_at_10] == [
        recalls_at_k(second, k).mean() for k in (5, 10)
    ]
    assert rows[1].mean_last_rank == last_relevant_ranks(second).mean()
    assert rows[0].difference is None and rows[1].difference == paired_bootstrap(b, a, 5)
    assert rows[1].difference.mean == pytest.approx(b.mean() - a.mean())
    assert (rows[1].num_queries, rows[1].num_left_out, rows[1].num_skipped) == (30, 0, 3)


def test_the_same_result_twice_does_not_differ() -> None:
    rows = compare([Evaluated("a", random_hits(2)), Evaluated("b", random_hits(2))], seed=0)
    assert rows[1].difference is not None
    assert (rows[1].difference.mean, rows[1].difference.p_value) == (0.0, 1.0)
    assert (
        compare([Evaluated("a", random_hits(2)), Evaluated("b", random_hits(3))], seed=0)[1]
        == (compare([Evaluated("a", random_hits(2)), Evaluated("b", random_hits(3))], seed=0)[1])
    )


def test_missing_query_is_left_out_for_all_and_noted() -> None:
    whole = hits_at([[0, 1], [2, 3], [5, 9], [0, 4]])
    without_q1 = whole.take(np.array([0, 2, 3]))
    rows = compare([Evaluated("whole", whole), Evaluated("cut", without_q1, num_skipped=1)], seed=0)
    assert rows[0].mean_average_precision == pytest.approx(average_precisions(without_q1).mean())
    assert rows[1].difference is not None and rows[1].difference.mean == 0
    table = format_table(rows)
    assert "3 queries scored." in table
    assert "1 queries were not ranked by every method and are left out for all." in table
    assert "cut: 1 images skipped." in table


def test_queries_without_relevant_images_are_counted() -> None:
    rows = compare([Evaluated("a", hits_at([[0, 1], [], [1, 2]]))], seed=0)
    assert (rows[0].num_queries, rows[0].num_without_relevant) == (2, 1)
    assert "1 queries have no relevant image in the gallery and are not scored." in format_table(
        rows
    )


def test_table_is_aligned() -> None:
    rows = compare(
        [
            Evaluated("Keras baseline", hits_at([[0, 1], [0, 1]])),
            Evaluated("x", hits_at([[1, 3], [1, 3]])),
        ],
        seed=0,
    )
    lines = format_table(rows).splitlines()
    header = lines[0]
    first = lines[2]
    second = lines[3]
    assert header.split()[:4] == ["mAP", "95", "%", "R@1"]
    assert (
        " ".join(first.split())
        == "Keras baseline 1.0000 0.1581 .. 1.0000 1.0000 0.1581 .. 1.0000 1.0000 1.0000 2.0"
    )
    # By hand: hits at ranks 2 and 4, AP = (1/2 + 2/4) / 2. All queries are equal, so
    # the intervals are exact: 1 - 0.025 ** (1 / 2) = 0.8419 of all queries may differ unseen.
    # Two differences of one sign have p = 1/2.
    expected = (
        "x 0.5000 0.0791 .. 0.9209 0.0000 0.0000 .. 0.8419 1.0000 1.0000 4.0 "
        "-0.5000 -0.5000 .. -0.5000 0.500"
    )
    assert " ".join(second.split()) == expected
    assert lines[-1].startswith("warning: intervals over 2 queries say little")
    assert header.index("mAP") + 3 == first.index("1.0000") + 6 == second.index("0.5000") + 6


def test_refusals_name_the_results() -> None:
    hits = hits_at([[0, 1], [2, 3]])
    turned = hits.take(np.array([1, 0]))
    with pytest.raises(ValueError, match="A and B have their queries in another order"):
        compare([Evaluated("A", hits), Evaluated("B", turned)], seed=0)
    with pytest.raises(
        ValueError,
        match="A and B were not evaluated on one gallery: for q0, 2 of 20 images .* 3 of 20 under",
    ):
        compare(
            [Evaluated("A", hits), Evaluated("B", hits_at([[0, 1], [2, 3]], num_relevant=3))],
            seed=0,
        )
    with pytest.raises(ValueError, match="no query with a relevant image is common to A, B"):
        compare([Evaluated("A", hits), Evaluated("B", hits_at([[0, 1]], ["other"]))], seed=0)
    with pytest.raises(ValueError, match="at least one result"):
        common_hits([])
