from __future__ import annotations

import io
import math
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf_ext.config import UsageError
from delf_ext.reranking.deadline import Abandoned, Deadline
from delf_ext.reranking.pace import SLOWDOWN
from delf_ext.reranking.trial import Trial


class Clock:
    """Clock that advances only by work."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def work(self, seconds: float) -> None:
        self.now_s += seconds


def walk(
    deadline: Deadline,
    clock: Clock,
    num_queries: int,
    block_size: int,
    query_s: float,
    call_s: float = 0.0,
) -> list[slice]:
    blocks = []
    for block in deadline.blocks(num_queries, block_size):
        clock.work(call_s + query_s * (block.stop - block.start))
        blocks.append(block)
    return blocks


def reached(blocks: list[slice]) -> int:
    return blocks[-1].stop if blocks else 0


@pytest.mark.parametrize("seconds", [None, 1e9, math.inf])
def test_blocks_cover_all_queries_if_time_suffices(seconds: float | None) -> None:
    clock = Clock()
    blocks = walk(Deadline(seconds, clock), clock, 1000, 100, 7.0)
    assert [block.start for block in blocks] == [
        0,
        *(block.stop for block in blocks[:-1]),
    ] and reached(blocks) == 1000
    assert max(block.stop - block.start for block in blocks) == 100


def test_blocks_have_full_size_without_a_limit() -> None:
    assert list(Deadline(None).blocks(25, 10)) == [slice(0, 10), slice(10, 20), slice(20, 25)]
    assert (
        Deadline(None).remaining_s() == math.inf
        and not Deadline(None).expired()
        and not Deadline(None).give_up()(0.1)
    )


def test_blocks_grow_from_one_query() -> None:
    clock = Clock()
    sizes = [block.stop - block.start for block in walk(Deadline(1e6, clock), clock, 30, 8, 1.0)]
    assert sizes == [1, 1, 2, 4, 8, 8, 6]


def test_zero_budget_starts_no_block() -> None:
    clock = Clock()
    deadline = Deadline(0, clock)
    assert (
        walk(deadline, clock, 10, 1, 0.0) == []
        and deadline.expired()
        and deadline.remaining_s() == 0
    )
    assert walk(Deadline(5, clock), clock, 0, 4, 1.0) == []


@pytest.mark.parametrize("seconds", [-1, -0.5, math.nan, -math.inf])
def test_refuses_negative_budget(seconds: float) -> None:
    with pytest.raises(
        UsageError, match=f"--time_budget must be at least 0 seconds. Received {seconds}."
    ):
        Deadline(seconds)


def slow_down(
    seconds: float,
    num_queries: int,
    block_size: int,
    reserve_s: float,
    first: float,
    growths: list[float],
) -> None:
    """Run blocks that each take `growth` times as long as comparable blocks; check their end."""
    clock = Clock()
    deadline = Deadline(seconds, clock).sooner(reserve_s)
    num_done = 0
    seen = []
    for block, growth in zip(deadline.blocks(num_queries, block_size), growths):
        count = block.stop - block.start
        assert block.start == num_done and 1 <= count <= block_size
        num_done = block.stop
        clock_before = clock.now_s
        like_it = [took * max(1, count / size) for size, took in seen if 2 * size >= count]
        clock.work(growth * max(like_it) if seen else first * deadline.first_s)
        seen = [
            *seen[block.start == 1 :],
            (count, clock.now_s - clock_before),
        ]
    assert clock.now_s <= max(100.0 + seconds - reserve_s, 100.0) + 1e-9


@given(
    seconds=st.floats(0, 200),
    num_queries=st.integers(1, 60),
    block_size=st.integers(1, 16),
    reserve_s=st.floats(0, 20),
    first=st.floats(0, 1),
    growths=st.lists(st.floats(0, SLOWDOWN), min_size=60, max_size=60),
)
def test_blocks_end_in_time_if_each_is_slower_than_those_before(
    seconds: float,
    num_queries: int,
    block_size: int,
    reserve_s: float,
    first: float,
    growths: list[float],
) -> None:
    slow_down(seconds, num_queries, block_size, reserve_s, first, growths)


@pytest.mark.parametrize("block_size", [1, 3, 16])
def test_blocks_end_in_time_in_the_worst_case(block_size: int) -> None:
    for hundredths in range(100, 3000, 7):
        slow_down(hundredths / 100, 60, block_size, 0.0, 0.1, [SLOWDOWN] * 60)


@given(
    st.floats(1, 100),
    st.integers(1, 500),
    st.integers(1, 64),
    st.floats(0, 0.09),
    st.floats(0, 0.01),
)
def test_little_time_is_wasted_at_an_even_pace(
    seconds: float, num_queries: int, block_size: int, call_s: float, query_s: float
) -> None:
    """Time left after a cut is less than SLOWDOWN blocks."""
    clock = Clock()
    deadline = Deadline(seconds, clock)
    num_done = reached(walk(deadline, clock, num_queries, block_size, query_s, call_s))
    assert (
        num_done == num_queries
        or deadline.remaining_s() <= 2 * SLOWDOWN * (call_s + query_s * block_size) + 1e-6
    )


def test_first_block_starts_only_with_first_s_left() -> None:
    clock = Clock()
    deadline = Deadline(100.0, clock)
    clock.work(99.5)
    assert walk(deadline, clock, 10, 1, 0.1) == []
    quick = Deadline(0.5, clock)
    assert reached(walk(quick, clock, 10, 1, 0.01)) == 10


def test_slow_first_block_does_not_stop_the_others() -> None:
    clock = Clock()
    num_done = 0
    for block in Deadline(100.0, clock).blocks(60, 1):
        clock.work(15.0 if block.start == 0 else 1.0)
        num_done = block.stop
    assert num_done == 60


def test_sooner_ends_earlier_on_the_same_clock() -> None:
    clock = Clock()
    whole = Deadline(10.0, clock)
    part = whole.sooner(4.0)
    assert part.remaining_s() == 6.0 and part.first_s == whole.first_s == 1.0
    assert reached(walk(part, clock, 100, 1, 1.0)) == 5 and whole.remaining_s() == 5.0
    assert whole.sooner(20.0).expired() and Deadline(None).sooner(5).remaining_s() == math.inf


def share_before_giving_up(deadline: Deadline, clock: Clock, steps_s: list[float]) -> float:
    """Return the share of the steps that ran."""
    give_up = deadline.give_up()
    for num_done, step_s in enumerate(steps_s, 1):
        clock.work(step_s)
        if give_up(num_done / len(steps_s)):
            return num_done / len(steps_s)
    return 1.0


def test_give_up_stops_work_that_cannot_end() -> None:
    clock = Clock()
    assert share_before_giving_up(Deadline(200.0, clock), clock, [1.0] * 100) == 1.0
    deadline = Deadline(50.0, clock)
    assert share_before_giving_up(deadline, clock, [1.0] * 100) == pytest.approx(0.07)
    assert deadline.remaining_s() > 40
    # The first step compiles: it is not part of the pace.
    assert share_before_giving_up(Deadline(145.0, clock), clock, [15.0] + [1.0] * 99) == 1.0
    late = Deadline(10.0, clock)
    give_up = late.give_up()
    clock.work(11.0)
    assert give_up(1.0)


@given(st.floats(1, 100), st.lists(st.floats(0, 2.0), min_size=1, max_size=40))
def test_give_up_stops_in_time(seconds: float, growths: list[float]) -> None:
    clock = Clock()
    deadline = Deadline(seconds, clock)
    slowest_s = 0.0
    steps = []
    for number, growth in enumerate(growths):
        if number == 0:
            steps.append(min(0.1, seconds / 10))
        else:
            steps.append(slowest_s * growth)
        slowest_s = steps[-1] if number <= 1 else max(slowest_s, steps[-1])
    share_before_giving_up(deadline, clock, steps)
    assert clock.now_s <= 100.0 + seconds + 1e-9


@given(st.floats(0, 100), st.lists(st.floats(0, 100), max_size=8))
def test_leave_time_for_reserves_what_cheaper_steps_need(
    left_s: float, later_s: list[float]
) -> None:
    share_s = Deadline(left_s, Clock()).leave_time_for(later_s).remaining_s()
    cheaper_s = sum(need_s for need_s in later_s if need_s < share_s - 1e-9)
    assert share_s + cheaper_s <= left_s + 1e-9
    more_s = share_s + 1e-3  # no longer share keeps this promise
    assert more_s > left_s or more_s + sum(s for s in later_s if s < more_s) > left_s


@pytest.mark.parametrize(
    ("left_s", "later_s", "share_s"),
    [
        (100.0, [], 100.0),
        (100.0, [5.0], 95.0),
        (100.0, [900.0], 100.0),
        (100.0, [60.0], 60.0),
        (60.0, [30.0, 10.0], 30.0),
        (10.0, [math.inf, 1.0], 9.0),
    ],
)
def test_leave_time_for_examples(left_s: float, later_s: list[float], share_s: float) -> None:
    part = Deadline(left_s, Clock()).leave_time_for(later_s)
    assert part.remaining_s() == pytest.approx(share_s)


def test_trial_stops_after_its_first_full_block_and_measures_the_whole() -> None:
    clock = Clock()
    trial = Trial(Deadline(200.0, clock))
    assert trial.whole_s() == math.inf
    blocks = []
    for block in trial.blocks(80, 4):
        blocks.append(block.stop)
        clock.work(9.0 if block.start == 0 else 1.0 + 0.5 * (block.stop - block.start))
    assert blocks == [1, 2, 4, 8] and trial.whole_s() == pytest.approx(80 / 4 * 3.0)
    must_stop = trial.give_up()
    clock.work(0.5)
    assert not must_stop(0.1)
    clock.work(0.25)
    assert must_stop(0.2) and trial.whole_s() == pytest.approx(80 / 4 * 3.0 + 2.5)


def test_trial_takes_little_of_the_time() -> None:
    clock = Clock()
    trial = Trial(Deadline(16.0, clock))
    assert reached(walk(trial, clock, 1000, 256, query_s=0.1)) == 16
    assert trial.whole_s() == pytest.approx(100.0)
    loop_in_one_step = trial.give_up()
    clock.work(3.0)
    assert not loop_in_one_step(1.0) and trial.whole_s() == pytest.approx(103.0)


def test_trial_ends_at_its_deadline() -> None:
    clock = Clock()
    assert walk(Trial(Deadline(0.0, clock)), clock, 10, 1, 1.0) == []
    trial = Trial(Deadline(100.0, clock))
    clock.work(99.5)
    assert walk(trial, clock, 10, 1, 1.0) == [] and trial.whole_s() == math.inf


def test_progress_bar_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, is_shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        clock = Clock()
        walk(Deadline(80.0, clock), clock, 16, 1, 1.0)
        assert ("64 s left" in stream.getvalue()) == is_shown and (
            "re-ranking" in stream.getvalue()
        ) == is_shown


def test_part_has_time_only_if_one_twice_as_slow_would_end() -> None:
    clock = Clock()
    has_time = Deadline(10.0, clock).time_check()
    num_done = 0
    while has_time():
        clock.work(3.0 if num_done == 0 else 1.0)  # the first part also loads
        num_done += 1
    assert num_done == 7 and clock.now_s == 109.0  # the last started with two seconds left
    assert not Deadline(0, clock).time_check()() and Deadline(None, clock).time_check()()


def test_run_abandons_work_at_the_deadline() -> None:
    released = threading.Event()
    with pytest.raises(Abandoned, match="work did not end in its 0.3 s"):
        Deadline(0.3).run(released.wait)
    released.set()
    with pytest.raises(Abandoned):
        Deadline(0).run(lambda: pytest.fail("no time to start"))


def test_run_returns_what_work_returns() -> None:
    assert Deadline(60.0).run(lambda: 5) == 5
    assert Deadline().run(threading.current_thread) is threading.current_thread()
    assert Deadline(60.0).run(threading.current_thread).daemon
    for deadline in (Deadline(60.0), Deadline()):
        with pytest.raises(ZeroDivisionError):
            deadline.run(lambda: 1 / 0)
