from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data_io.records import Ranking


def ranking(
    rows: list[list[int]], scores: list[list[float]], num_gallery: int = 3, **columns: object
) -> Ranking:
    query_ids = np.array([f"q{row}" for row in range(len(rows))])
    gallery_ids = np.array([f"g{row}" for row in range(num_gallery)])
    return Ranking(query_ids, gallery_ids, np.array(rows), np.array(scores), **columns)


def test_ranking_accepts_ties_padding_and_no_rows() -> None:
    nan = np.nan
    padded = ranking([[2, 0, -1], [-1, -1, -1]], [[0.5, 0.5, -np.inf], [nan, nan, nan]])
    assert padded.rows.dtype == np.int32
    assert padded.scores.dtype == np.float32
    assert padded.complete.dtype == bool
    assert padded.complete.tolist() == [True, True]
    assert ranking([[0]], [[1.0]], complete=np.array([False])).complete.tolist() == [False]
    assert ranking([[], []], [[], []], num_gallery=0).rows.shape == (2, 0)


@pytest.mark.parametrize(
    ("rows", "scores", "message"),
    [
        ([[0, 1, 2]], [[3, 2, 2.5]], "scores must never rise along a ranking: higher is nearer"),
        ([[0, 1, 1]], [[3, 2, 1]], "an image may appear only once in a ranking"),
        ([[0, -1, 1]], [[3, 2, 1]], "-1 may only pad the end of a ranking"),
        ([[0, 1, 3]], [[3, 2, 1]], r"rows must be in -1..2. Received 0..3"),
        ([[0, 1, -2]], [[3, 2, 1]], r"rows must be in -1..2. Received -2..1"),
        ([[0, 1, 2]], [[3, np.nan, 1]], "scores must be finite"),
        ([[0, 1, 2]], [[np.inf, 2, 1]], "scores must be finite"),
        (
            [[0, 1]],
            [[3, 2, 1]],
            r"rows and scores must be \[Q, k\] for 1 queries. Received \(1, 2\) and \(1, 3\)",
        ),
    ],
)
def test_ranking_refuses_wrong_rows_and_scores(
    rows: list[list[int]], scores: list[list[float]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ranking(rows, scores)


def test_ranking_refuses_repeated_ids() -> None:
    one_row = np.array([[0]])
    one_score = np.array([[1.0]])
    with pytest.raises(ValueError, match="gallery ids must be unique. Received twice: g"):
        Ranking(np.array(["q"]), np.array(["g", "g"]), one_row, one_score)
    with pytest.raises(ValueError, match="query ids must be unique. Received twice: q"):
        Ranking(np.array(["q", "q"]), np.array(["g"]), one_row.repeat(2, 0), one_score.repeat(2, 0))


def test_replaced_fields_are_checked() -> None:
    made = Ranking(["q"], ["a", "b", "c"], np.array([[2, 0]]), np.array([[0.9, 0.5]]))
    assert dataclasses.replace(made, provenance="other").provenance == "other"
    with pytest.raises(ValueError, match="rows must be in"):
        dataclasses.replace(made, gallery_ids=np.array(["a", "b"]))
    with pytest.raises(ValueError, match="never rise"):
        dataclasses.replace(made, scores=np.array([[0.1, 0.5]], np.float32))
