"""Keep work within a time budget.

Work is divided into blocks, and `delf_ext.reranking.pace` decides before each block whether it may
start. The first block is one query; blocks double until they have their full size. Blocks are not
interrupted. Work that cannot be divided and may hang, such as compiling, runs in a thread that is
abandoned at the deadline (`Deadline.run`).
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import TypeVar

from tqdm import tqdm

from delf_ext.config import UsageError
from delf_ext.reranking.pace import Clock, Pace

T = TypeVar("T")

# A method's first block needs the smaller of the two; the second is a share of the whole budget.
FIRST_BLOCK_S = 1.0
FIRST_BLOCK_SHARE = 0.1
CLOCK_INTERVAL_S = 0.02
MIN_QUERIES_FOR_BAR = 16


class Abandoned(TimeoutError):
    """Work had not ended at the deadline; its thread was abandoned."""


class Deadline:
    """Point in time at which work must have ended.

    Attributes:
        clock: returns seconds that never decrease.
        seconds: the time budget; infinite without a limit.
        end: clock reading at the deadline; infinite without a limit.
        first_s: seconds that must be left to start a method's first block.
    """

    def __init__(self, seconds: float | None = None, clock: Clock = time.monotonic) -> None:
        """Start the time budget.

        Args:
            seconds: the budget. None: no limit. 0: no work at all.
            clock: returns seconds that never decrease.

        Raises:
            UsageError: `seconds` is negative or not a number.
        """
        if seconds is not None and not seconds >= 0:
            raise UsageError(f"--time_budget must be at least 0 seconds. Received {seconds}.")
        self.clock = clock
        self.seconds = math.inf if seconds is None else float(seconds)
        self.end = clock() + self.seconds
        self.first_s = min(FIRST_BLOCK_S, FIRST_BLOCK_SHARE * self.seconds)

    @property
    def is_limited(self) -> bool:
        """Whether there is a time limit."""
        return math.isfinite(self.seconds)

    def remaining_s(self) -> float:
        """Return the seconds left, never negative; infinity without a limit."""
        return max(0.0, self.end - self.clock()) if self.is_limited else math.inf

    def expired(self) -> bool:
        """Return whether no time is left."""
        return self.remaining_s() <= 0

    def sooner(self, reserve_s: float) -> Deadline:
        """Return the same deadline `reserve_s` earlier, to leave time for what follows."""
        if not self.is_limited:
            return self
        part = Deadline(max(0.0, self.remaining_s() - reserve_s), self.clock)
        part.first_s = self.first_s
        return part

    def leave_time_for(self, later_s: Sequence[float]) -> Deadline:
        """Return the deadline of a step that must leave time for the cheaper of the later steps.

        A later step is cheaper if it needs less than this step gets. More expensive
        steps have the time that this step does not use.

        Args:
            later_s: seconds that each later step needs.

        Returns:
            A deadline that is not later than this one.
        """
        left_s = self.remaining_s()
        share_s = left_s
        for need_s in sorted(later_s):
            if need_s < share_s:
                share_s = max(need_s, share_s - need_s)
        return self.sooner(left_s - share_s) if share_s < left_s else self

    def blocks(
        self, num_queries: int, block_size: int, what: str = "re-ranking"
    ) -> Iterator[slice]:
        """Divide queries into blocks, and stop when the next block may not end in time.

        The cost of a block is the time until the next one is asked for. A progress bar on the
        terminal shows the queries and the seconds left.

        Args:
            num_queries: how many there are.
            block_size: largest block. Without a limit all blocks have this size.
            what: name of the work, for the progress bar.

        Yields:
            Slices of queries, in order.
        """
        pace = Pace(self.clock, self.end, self.first_s)
        start = 0
        size = min(1, block_size) if self.is_limited else block_size
        hidden = num_queries < MIN_QUERIES_FOR_BAR or not sys.stderr.isatty()
        with tqdm(desc=what, total=num_queries, unit="query", disable=hidden) as bar:
            while start < num_queries:
                block = slice(start, min(start + size, num_queries))
                if self.is_limited and not pace.may_start(block.stop - start):
                    return
                yield block
                if self.is_limited:
                    size = 1 if start == 0 else min(2 * size, block_size)
                    bar.set_postfix_str(f"{self.remaining_s():.0f} s left", refresh=False)
                bar.update(block.stop - start)
                start = block.stop

    def time_check(self, first_s: float | None = None) -> Callable[[], bool]:
        """Return the callback `has_time` of work in equal parts; call it before each part.

        Args:
            first_s: seconds that must be left for the first part; None: `self.first_s`.

        Returns:
            False means stop: the next part may not end in time.
        """
        if not self.is_limited:
            return lambda: True
        return Pace(self.clock, self.end, first_s or self.first_s).may_start

    def give_up(self) -> Callable[[float], bool]:
        """Return a callback for all-or-nothing work, which counts only if all of it ends.

        Returns:
            Call it after each step with the completed fraction. True means that the next step, or
            the whole work at its pace so far, cannot end in time.
        """
        if not self.is_limited:
            return lambda share: False
        pace = Pace(self.clock, self.end, self.first_s)
        pace.may_start()
        return pace.cannot_end

    def run(self, work: Callable[[], T]) -> T:
        """Return `work()`, but do not wait for it beyond the deadline.

        Under a limit, work runs in a daemon thread, because nothing can interrupt it if it hangs.

        Raises:
            Abandoned: the work has not ended in time. It continues in its thread.
        """
        if not self.is_limited:
            return work()
        future: Future[T] = Future()

        def fill() -> None:
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        if not self.expired():
            threading.Thread(target=fill, daemon=True).start()
        # `clock` decides when time is over, and it need not be that of `wait`.
        while not future.done():
            if self.expired():
                raise Abandoned(f"work did not end in its {self.seconds:g} s.")
            wait([future], CLOCK_INTERVAL_S)
        return future.result()
