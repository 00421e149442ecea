from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import dual_main
from delf_ext.reranking.deadline import Deadline
from delf_ext.verbs.infer import Answer
from delf_ext.verbs.session import last_in_time

PLAIN: Answer = [(0, ("query_0", ["refer_1"]))]
BETTER: Answer = [(0, ("query_0", ["refer_2"]))]
FALLBACK: Answer = [(0, ("query_0", ["refer_0"]))]


def test_the_last_answer_is_taken_when_all_came() -> None:
    assert last_in_time(iter([PLAIN, BETTER]), Deadline(), FALLBACK) == BETTER
    assert last_in_time(iter([PLAIN]), Deadline(60), FALLBACK) == PLAIN
    assert last_in_time(iter([]), Deadline(60), FALLBACK) == FALLBACK


def test_what_hangs_leaves_the_answer_before(capsys: pytest.CaptureFixture) -> None:
    never = threading.Event()

    def hanging(*before: Answer) -> Iterator[Answer]:
        yield from before
        never.wait()

    assert last_in_time(hanging(PLAIN), Deadline(0.2), FALLBACK) == PLAIN
    assert last_in_time(hanging(), Deadline(0.2), FALLBACK) == FALLBACK
    assert capsys.readouterr().out.count("s are over; the answer is the last one that was ready") == 2
    never.set()


def test_what_fails_is_raised() -> None:
    def failing() -> Iterator[Answer]:
        yield PLAIN
        raise ValueError("no gallery")

    for deadline in (Deadline(), Deadline(60)):
        with pytest.raises(ValueError, match="no gallery"):
            last_in_time(failing(), deadline, FALLBACK)


def test_a_submission_needs_the_platform(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        dual_main.main(["--mode=test", "--iteration=3", "--pause=1", f"--run_dir={tmp_path}"])
    assert end.value.code == 2 and "--mode=test is how `nsml submit` calls a session" in capsys.readouterr().err
