from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf_ext.config import UsageError
from delf_ext.reranking.steps import METHODS, Step, parse_chain, width_warnings


def test_parses_the_documented_example() -> None:
    assert parse_chain("dba:10,aqe:5@3,k_reciprocal:20,6,0.3,geometric:100") == (
        Step("dba", {"num_expand": 10, "alpha": 0.0}),
        Step("aqe", {"num_expand": 5, "alpha": 3.0}),
        Step("k_reciprocal", {"k1": 20, "k2": 6, "lambda_": 0.3}),
        Step("geometric", {"top_k": 100}),
    )


def test_missing_settings_have_their_default() -> None:
    assert parse_chain("") == parse_chain("  ") == ()
    assert parse_chain("k_reciprocal:30, diffusion:40 , aqe@1") == (
        Step("k_reciprocal", {"k1": 30, "k2": 6, "lambda_": 0.3}),
        Step("diffusion", {"k": 40, "top_k": 1000, "alpha": 0.99}),
        Step("aqe", {"num_expand": 5, "alpha": 1.0}),
    )
    assert isinstance(parse_chain("k_reciprocal:30")[0].settings["k1"], int)


@given(st.lists(st.sampled_from(sorted(METHODS)), max_size=5))
def test_printed_chain_parses_to_the_same_steps(names: list[str]) -> None:
    steps = parse_chain(",".join(names))
    assert [step.name for step in steps] == names
    assert parse_chain(",".join(map(str, steps))) == steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "dbaa:10",
            "--method: unknown step 'dbaa:10'. Steps: dba, aqe, k_reciprocal, diffusion, "
            "geometric. Example: dba:10,aqe:5@3,k_reciprocal:20,6,0.3,geometric:100.",
        ),
        ("aqe:5,", "--method aqe:5,: too many numbers. Form: aqe:num_expand@alpha."),
        ("5,aqe", "--method: unknown step '5'. Steps: dba, aqe"),
        ("aqe 5", "unknown step 'aqe 5'."),
        (
            "aqe:5:3",
            "--method aqe:5:3: num_expand must be a whole number. Form: aqe:num_expand@alpha.",
        ),
        ("aqe:2.5", "--method aqe:2.5: num_expand must be a whole number."),
        ("aqe:0", "--method aqe:0: num_expand must be at least 1. Form: aqe:num_expand@alpha."),
        ("aqe:5@-1", "--method aqe:5@-1: alpha must be from 0 to 100."),
        ("aqe:5@x", "--method aqe:5@x: alpha must be a number."),
        ("aqe:5@nan", "--method aqe:5@nan: alpha must be from 0 to 100."),
        ("aqe:", "--method aqe:: num_expand must be a whole number."),
        (
            "geometric:100@2",
            "--method geometric:100@2: this step has no alpha. Form: geometric:top_k.",
        ),
        (
            "k_reciprocal:20,6,1.5",
            "k_reciprocal:20,6,1.5: lambda_ must be from 0 to 1. Form: k_reciprocal:k1,k2,lambda_.",
        ),
        ("k_reciprocal:20,6,0.3,4", "--method k_reciprocal:20,6,0.3,4: too many numbers."),
        ("diffusion:50,100@1", "--method diffusion:50,100@1: alpha must be from 0 to 0.999."),
    ],
)
def test_refuses_wrong_methods_and_settings(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_chain(text)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("aqe:9", []),
        ("aqe:10", ["num_expand"]),
        ("dba:500,aqe:3,k_reciprocal:500,6", ["num_expand", "k1"]),
        ("diffusion:10,1000,geometric:100", ["k"]),
        ("geometric:1000", []),
    ],
)
def test_warns_of_neighbours_that_are_the_whole_gallery(text: str, named: list[str]) -> None:
    lines = list(width_warnings(parse_chain(text), num_gallery=10))
    assert [line.split(": make ")[1] for line in lines] == [f"{name} smaller." for name in named]
