from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf_ext.nsml.answers import ranking_from_answer, score

QUERIES = ["query_0", "query_1", "query_10"]
REFERENCES = ["refer_0", "refer_1", "refer_2"]
GOOD = list(
    zip(
        range(3),
        {"query_10": ["refer_2"], "query_0": ["refer_1", "refer_0"], "query_1": REFERENCES}.items(),
    )
)

ITEM_FORM = "each item must be (number, (query, [references]))"
STRING = "each reference must be a string"


def broken_rules(answer: Any) -> list[str]:
    """Return the lines of the error below the first."""
    with pytest.raises(
        ValueError,
        match=r"^the answer must have the form \[\(0, \('query_0', \['refer_12', ...\]\)\)",
    ) as caught:
        ranking_from_answer(answer, QUERIES, REFERENCES)
    return str(caught.value).splitlines()[1:]


def changed(position: int, item: Any) -> list[Any]:
    """Return the good answer with one other item."""
    return [*GOOD[:position], item, *GOOD[position + 1 :]]


# --- valid answers


@pytest.mark.parametrize(
    "answer", [GOOD, tuple(GOOD), json.loads(json.dumps(GOOD))], ids=["list", "tuple", "json"]
)
def test_ranking_from_answer_has_the_queries_in_data_set_order(answer: Any) -> None:
    ranking = ranking_from_answer(answer, np.array(QUERIES), np.array(REFERENCES))
    assert ranking.query_ids.tolist() == QUERIES and ranking.gallery_ids.tolist() == REFERENCES
    assert ranking.rows.tolist() == [[1, 0, -1], [0, 1, 2], [2, -1, -1]]


@given(
    st.permutations(QUERIES),
    st.lists(st.permutations(REFERENCES), min_size=3, max_size=3),
    st.integers(1, 3),
)
def test_ranking_from_answer_accepts_every_answer_of_the_official_form(
    queries: list[str], references: list[list[str]], k: int
) -> None:
    given = {query: names[:k] for query, names in zip(queries, references, strict=True)}
    ranking = ranking_from_answer(list(zip(range(3), given.items())), QUERIES, REFERENCES)
    answered = {
        query: ranking.gallery_ids[rows].tolist()
        for query, rows in zip(ranking.query_ids, ranking.rows)
    }
    assert answered == given


@pytest.mark.parametrize("numbers", [(0, 0, 0), (7, -1, 2.5), ("a", "a", None), (True, [1], {})])
def test_the_numbers_of_an_answer_have_no_meaning(numbers: tuple[Any, ...]) -> None:
    answer = [(number, item) for number, (_, item) in zip(numbers, GOOD, strict=True)]
    ranking = ranking_from_answer(answer, QUERIES, REFERENCES)
    assert ranking.rows.tolist() == ranking_from_answer(GOOD, QUERIES, REFERENCES).rows.tolist()


# --- broken rules


@pytest.mark.parametrize(
    ("answer", "rule", "place"),
    [
        ({}, "the answer must be a list", "it is {}"),
        (None, "the answer must be a list", "it is None"),
        (changed(0, GOOD[0][1]), ITEM_FORM, "item 0 is ('query_10', ['refer_2'])"),
        (changed(0, [0, ["query_10", "refer_2"]]), ITEM_FORM, "item 0 is"),
        (changed(0, "ab"), ITEM_FORM, "item 0 is 'ab'"),
        (
            changed(2, (2, ("query_0", REFERENCES))),
            "each query must be answered once",
            "'query_0' (item 2)",
        ),
        (
            changed(2, (2, ("query_2", REFERENCES))),
            "each query must be in the data set",
            "'query_2' (item 2)",
        ),
        (
            changed(2, (2, ("query_1.jpg", REFERENCES))),
            "each query must be named without folder and extension",
            "'query_1.jpg'",
        ),
        (
            changed(2, (2, ("query_1", []))),
            "each query must have at least one reference",
            "'query_1'",
        ),
        (changed(2, (2, ("query_1", [0]))), STRING, "0 ('query_1', position 0)"),
        (
            changed(2, (2, ("query_1", [["refer_0"]]))),
            STRING,
            "['refer_0'] ('query_1', position 0)",
        ),
        (
            changed(2, (2, ("query_1", ["refer_7"]))),
            "each reference must be in the data set",
            "'refer_7' ('query_1', position 0)",
        ),
        (
            changed(2, (2, ("query_1", ["refer_0", "reference/refer_1.jpg"]))),
            "each reference must be named without folder and extension",
            "'reference/refer_1.jpg' ('query_1', position 1)",
        ),
        (
            changed(2, (2, ("query_1", ["refer_0", "refer_1", "refer_0"]))),
            "a reference must not occur twice in a list",
            "'refer_0' ('query_1', position 2)",
        ),
    ],
)
def test_error_shows_the_broken_rule_and_its_position(answer: Any, rule: str, place: str) -> None:
    lines = broken_rules(answer)
    assert lines[0].startswith(f"- {rule}. Violations (1): {place}")
    assert all(line.startswith("- every query must be answered") for line in lines[1:])


def test_error_shows_missing_queries() -> None:
    assert broken_rules(GOOD[:1]) == [
        "- every query must be answered. Violations (2): 'query_0', 'query_1'"
    ]


def test_error_shows_all_broken_rules_with_ten_violations_each() -> None:
    lines = broken_rules(
        [
            (5, ("query_0", ["x", 1])),
            "b",
            *[(2, ("query_1", [f"refer_{i}.png" for i in range(3)] * 4))],
        ]
    )
    assert [line.split(". Violations ")[0] for line in lines] == [
        "- each reference must be in the data set",
        "- each reference must be a string",
        "- each item must be (number, (query, [references]))",
        "- each reference must be named without folder and extension",
        "- every query must be answered",
    ]
    assert "Violations (12)" in lines[3]
    assert "position 9), ..." in lines[3]
    assert "position 10" not in lines[3]


# --- scores


def test_score_equals_values_computed_by_hand() -> None:
    labels = {
        "query_0": "a",
        "query_1": "b",
        "query_10": "c",
        "refer_0": "a",
        "refer_1": "b",
        "refer_2": "b",
    }
    metrics = score(ranking_from_answer(GOOD, QUERIES, REFERENCES), labels)
    # query_0: its one relevant image comes second. query_1: two, second and third. query_10: none.
    assert metrics["mAP@1000"] == metrics["mAP"] == pytest.approx((1 / 2 + (1 / 2 + 2 / 3) / 2) / 2)
    assert (metrics["recall_at_1"], metrics["recall_at_5"]) == (0.0, 1.0)
    assert (metrics["num_queries"], metrics["num_without_relevant"]) == (2, 1)


def test_references_without_a_label_take_places_and_such_queries_are_not_scored() -> None:
    labels = dict.fromkeys([*QUERIES, *REFERENCES], "") | {"query_0": "a", "refer_0": "a"}
    metrics = score(ranking_from_answer(GOOD, QUERIES, REFERENCES), labels)
    # query_0 finds refer_0 behind refer_1, which has no label.
    assert (metrics["mAP"], metrics["recall_at_1"]) == (0.5, 0.0)
    assert (metrics["num_queries"], metrics["num_without_relevant"]) == (1, 2)


def test_only_map_at_1000_stops_after_1000_references() -> None:
    references = [f"refer_{i}" for i in range(1500)]
    labels = {"q": "a"} | dict.fromkeys(references, "b") | {"refer_1200": "a"}
    metrics = score(ranking_from_answer([(0, ("q", references))], ["q"], references), labels)
    assert metrics["mAP@1000"] == 0.0 and metrics["mAP"] == pytest.approx(1 / 1201)


def test_score_refuses_missing_labels_and_no_relevant_reference() -> None:
    ranking = ranking_from_answer(GOOD, QUERIES, REFERENCES)
    with pytest.raises(ValueError, match="the data set has no label for refer_1: push it again"):
        score(ranking, {"refer_0": "a"})
    with pytest.raises(ValueError, match="none of 3 queries has a relevant image in the gallery"):
        score(ranking, dict.fromkeys(QUERIES, "a") | dict.fromkeys(REFERENCES, "b"))
