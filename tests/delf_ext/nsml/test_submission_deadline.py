"""Test how a submission keeps to the platform's time limit."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import pytest

from delf_ext import nsml
from delf_ext.app.answers import Answer
from delf_ext.nsml.entry import last_in_time, submission_budget_s
from delf_ext.reranking.deadline import Deadline

PLAIN: Answer = [(0, ("query_0", ["refer_1"]))]
BETTER: Answer = [(0, ("query_0", ["refer_2"]))]
FALLBACK: Answer = [(0, ("query_0", ["refer_0"]))]


def test_last_in_time_returns_the_last_answer() -> None:
    assert last_in_time(iter([PLAIN, BETTER]), Deadline(), FALLBACK) == BETTER
    assert last_in_time(iter([PLAIN]), Deadline(60), FALLBACK) == PLAIN
    assert last_in_time(iter([]), Deadline(60), FALLBACK) == FALLBACK


def test_last_in_time_abandons_an_answer_that_hangs(capsys: pytest.CaptureFixture) -> None:
    never = threading.Event()

    def hanging(*before: Answer) -> Iterator[Answer]:
        yield from before
        never.wait()

    assert last_in_time(hanging(PLAIN), Deadline(0.2), FALLBACK) == PLAIN
    assert last_in_time(hanging(), Deadline(0.2), FALLBACK) == FALLBACK
    message = "s is over; the answer is the last one that was ready"
    assert capsys.readouterr().out.count(message) == 2
    never.set()


def test_last_in_time_raises_only_if_no_answer_is_ready(capsys: pytest.CaptureFixture) -> None:
    def failing(*before: Answer) -> Iterator[Answer]:
        yield from before
        raise ValueError("no gallery")

    for deadline in (Deadline(), Deadline(60)):
        with pytest.raises(ValueError, match="no gallery"):
            last_in_time(failing(), deadline, FALLBACK)
        assert last_in_time(failing(PLAIN), deadline, FALLBACK) == PLAIN
    message = "re-ranking failed (no gallery); the answer is the plain ranking."
    assert capsys.readouterr().out.count(message) == 2


@pytest.mark.parametrize(
    ("left_s", "asked_s", "budget_s"),
    [
        (math.inf, math.inf, math.inf),
        (math.inf, 50.0, 50.0),
        (1000.0, math.inf, 950.0),  # 5 % to write the answer
        (1000.0, 100.0, 100.0),
        (10.0, math.inf, 8.0),  # at least two seconds
        (1.0, math.inf, 0.0),
    ],
)
def test_submission_budget_leaves_time_to_write_the_answer(
    left_s: float,
    asked_s: float,
    budget_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nsml, "time_left_s", lambda: left_s)
    assert submission_budget_s(asked_s) == pytest.approx(budget_s)
