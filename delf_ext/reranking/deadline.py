"""A time budget that re-ranking cannot miss: work is done in blocks, and a block is begun only where it will surely end in time.

What is guaranteed. Let c be the longest that a block as large as the next has taken so far, or twice that of a block half as
large. The next block is begun only if SLOWDOWN * c is left: work ends in time even if every single block is SLOWDOWN times slower
than the slowest before it. Of a method's first block, one query, nothing is known: it is begun only if `first_s` is left, and the
guarantee holds if it takes no longer. That first block, which also pays for loading, counts only until a second has been
measured. Blocks double until they have their full size: one of n takes at most
twice as long as one of n / 2, whatever a call costs beside its queries.
Work is not interrupted: what is no block (reading files, making the result) is the caller's, and needs a reserve. Compiling is
none either: it goes on in a thread of its own, and is only waited for (`ends_in_time`).
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from tqdm import tqdm

from delf_ext.config import UsageError

SLOWDOWN = 2.0
AFTERWARDS, MIN_SHARE_FOR_PACE = (
    0.25,
    0.05,
)  # of work that only counts as a whole: what follows its steps; what tells its pace
WAIT_S = 0.02  # between two looks at the clock
FEWEST_SHOWN = 16  # queries that are worth a progress bar
FIRST_BLOCK_S, FIRST_BLOCK_SHARE = (
    1.0,
    0.1,
)  # a method's first query: at most the smaller, the second of the whole budget

Clock = Callable[[], float]


class Deadline:
    """Ends `seconds` after it was made; None: never, and work is neither measured nor cut. 0: no work at all.

    clock: seconds, never falling. Raises: UsageError where `seconds` is negative or no number.
    """

    def __init__(self, seconds: float | None = None, clock: Clock = time.monotonic) -> None:
        if seconds is not None and not seconds >= 0:
            raise UsageError(f"--time_budget must be at least 0 seconds. Received {seconds}.")
        self.clock = clock
        self.seconds = math.inf if seconds is None else float(seconds)
        self.first_s = min(FIRST_BLOCK_S, FIRST_BLOCK_SHARE * self.seconds)
        self._end = clock() + self.seconds

    @property
    def is_limited(self) -> bool:
        return math.isfinite(self.seconds)

    def remaining_s(self) -> float:
        """Seconds left, never negative; infinity without a limit."""
        return max(0.0, self._end - self.clock()) if self.is_limited else math.inf

    def expired(self) -> bool:
        return self.remaining_s() <= 0

    def sooner(self, reserve_s: float) -> Deadline:
        """The same deadline `reserve_s` earlier: for a part of the work that must leave time to what follows."""
        if not self.is_limited:
            return self
        part = Deadline(max(0.0, self.remaining_s() - reserve_s), self.clock)
        part.first_s = self.first_s
        return part

    def blocks(
        self, num_queries: int, block_size: int, reserve_s: float = 0.0, what: str = "re-ranking"
    ) -> Iterator[slice]:
        """Walks over queries 0..num_queries in order, as slices, as long as each next block ends `reserve_s` before the deadline.

        What is done between two steps of the walk is the cost of a block. On a terminal a bar shows queries and seconds left.
        """
        slowest: dict[int, float] = {}  # size of a block -> seconds
        start, size = 0, min(1, block_size) if self.is_limited else block_size
        hidden = num_queries < FEWEST_SHOWN or not sys.stderr.isatty()
        with tqdm(desc=what, total=num_queries, unit="query", disable=hidden) as bar:
            while start < num_queries:
                block = slice(start, min(start + size, num_queries))
                begun, count = self.clock(), block.stop - block.start
                if self.is_limited and not self._fits(
                    _foreseen(slowest, count), self._end - reserve_s - begun
                ):
                    return
                yield block
                if self.is_limited:
                    took = self.clock() - begun
                    slowest[count] = took if start == 1 else max(took, slowest.get(count, 0.0))
                    size = 1 if start == 0 else min(2 * size, block_size)
                    bar.set_postfix_str(f"{self.remaining_s():.0f} s left", refresh=False)
                start = block.stop
                bar.update(count)

    def give_up(self) -> Callable[[float], bool]:
        """What to ask after each step, with the share that is done, in work that is worth nothing unless all of it ends.

        True as soon as the next step may not end in time (by the rule of the blocks), or the whole would not at the pace so far,
        with AFTERWARDS of its time for what follows the last step.
        """
        return _GiveUp(self)

    def ends_in_time(self, work: Callable[[], object]) -> bool:
        """Whether `work`, done in a thread of its own, ended while more than `first_s` was left; what it raised is raised.

        For work that cannot be cut and may take long or no time, such as compiling: it goes on behind a False.
        """
        if not self.is_limited:
            return True
        failures: list[BaseException] = []

        def caught() -> None:
            try:
                work()
            except BaseException as error:  # a thread's error is nobody's
                failures.append(error)

        thread = threading.Thread(target=caught, daemon=True)
        thread.start()
        while thread.is_alive() and self.remaining_s() > self.first_s:
            thread.join(WAIT_S)
        if failures:
            raise failures[0]
        return not thread.is_alive() and self.remaining_s() > self.first_s

    def part_fits(self, first_s: float | None = None) -> Callable[[], bool]:
        """What to ask before each part of work whose parts cost about the same: whether the next one surely ends in time.

        first_s: what must be left for the first part, of which nothing is known; the deadline's own without it.
        """
        took: list[float] = []
        asked_at: list[float] = []

        def fits() -> bool:
            now = self.clock()
            took.extend(now - before for before in asked_at)
            asked_at[:] = [now]
            counted = took[1:] or took  # the first part also loads and traces
            left_s = self._end - now
            return not self.is_limited or (
                self._fits(max(counted), left_s) if counted else left_s > (first_s or self.first_s)
            )

        return fits

    def _fits(self, foreseen_s: float | None, left_s: float) -> bool:
        return left_s > 0 and left_s >= (
            self.first_s if foreseen_s is None else SLOWDOWN * foreseen_s
        )


class _GiveUp:
    """As `Deadline.give_up` says. The first step, which also compiles and loads, is in no pace and counts until a second."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline, self._asked = deadline, 0
        self._last, self._slowest_s = deadline.clock(), 0.0
        self._pace_from = (0.0, 0.0)  # seconds, share: at the end of the first step

    def __call__(self, share: float) -> bool:
        if not self._deadline.is_limited:
            return False
        now, self._asked = self._deadline.clock(), self._asked + 1
        took, self._last = now - self._last, now
        self._slowest_s = took if self._asked <= 2 else max(took, self._slowest_s)
        if self._asked == 1:
            self._pace_from = (now, share)
        begun, before = self._pace_from
        rest_s = (
            (now - begun) / (share - before) * (1 - share + AFTERWARDS)
            if share - before > MIN_SHARE_FOR_PACE
            else 0.0
        )
        next_s = SLOWDOWN * self._slowest_s if share < 1 else 0.0
        return self._deadline.remaining_s() < max(rest_s, next_s) or self._deadline.expired()


def _foreseen(slowest: dict[int, float], count: int) -> float | None:
    """Seconds of a block of `count`, by the slowest of the blocks that are at least half as large; None before the first."""
    return max(
        (took * max(1.0, count / size) for size, took in slowest.items() if 2 * size >= count),
        default=None,
    )


def cheapest_first(left_s: float, foreseen_s: Sequence[float]) -> list[float]:
    """Splits what is left among works of foreseen cost: the cheap get all they need, then the dear what there is.

    Where each work gains about the same, this is the order of gain per second.

    >>> cheapest_first(10.0, [20.0, 1.0, 6.0])
    [3.0, 1.0, 6.0]
    """
    shares = [0.0] * len(foreseen_s)
    for work in sorted(range(len(foreseen_s)), key=lambda work: foreseen_s[work]):
        shares[work] = min(foreseen_s[work], left_s)
        left_s -= shares[work]
    return shares
