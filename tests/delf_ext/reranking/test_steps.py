from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf_ext.config import UsageError
from delf_ext.reranking.steps import METHODS, Step, parse_chain


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
            "--method names dba, aqe, k_reciprocal, diffusion, geometric, "
            "such as dba:10,aqe:5@3,k_reciprocal:20,6,0.3",
        ),
        ("aqe:5,", "--method takes aqe:num_expand@alpha; too many numbers. Received 'aqe:5,'."),
        ("5,aqe", "such as dba:10,aqe:5@3,k_reciprocal:20,6,0.3,geometric:100. Received '5'."),
        ("aqe 5", "Received 'aqe 5'."),
        (
            "aqe:5:3",
            "--method takes aqe:num_expand@alpha; '5:3' is not a whole number. Received 'aqe:5:3'.",
        ),
        ("aqe:2.5", "'2.5' is not a whole number. Received 'aqe:2.5'."),
        ("aqe:0", "0 is not from 1 to inf. Received 'aqe:0'."),
        ("aqe:5@-1", "-1.0 is not from 0 to 100. Received 'aqe:5@-1'."),
        ("aqe:5@x", "'x' is not a number. Received 'aqe:5@x'."),
        ("aqe:5@nan", "nan is not from 0 to 100. Received 'aqe:5@nan'."),
        ("aqe:", "'' is not a whole number. Received 'aqe:'."),
        (
            "geometric:100@2",
            "--method takes geometric:top_k; there is no alpha. Received 'geometric:100@2'.",
        ),
        (
            "k_reciprocal:20,6,1.5",
            "--method takes k_reciprocal:k1,k2,lambda_; 1.5 is not from 0 to 1. Received",
        ),
        ("k_reciprocal:20,6,0.3,4", "too many numbers. Received 'k_reciprocal:20,6,0.3,4'."),
        ("diffusion:50,100@1", "1.0 is not from 0 to 0.999. Received 'diffusion:50,100@1'."),
    ],
)
def test_refuses_wrong_methods_and_settings(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_chain(text)
