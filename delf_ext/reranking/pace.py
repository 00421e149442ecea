"""Decide whether the next block of work may start.

A block starts only if one that is SLOWDOWN times slower than the slowest comparable block so far
would still end in time. A comparable block is at least half as large; its time is scaled up to the
size of the next block. Nothing is known about the first block: it starts if `first_s` seconds are
left. Its time includes loading and compiling, so it is dropped when a second block was measured.
"""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]

SLOWDOWN = 2.0
# All-or-nothing work keeps this share of its time for what follows it.
AFTERWARDS = 0.25
# The pace of all-or-nothing work is known after this share of it.
MIN_SHARE_FOR_PACE = 0.05


class Pace:
    """Times of the blocks of one piece of work, and the rule that starts the next block."""

    def __init__(self, clock: Clock, end: float, first_s: float) -> None:
        """Begin with no block measured.

        Args:
            clock: returns seconds that never decrease.
            end: clock reading at which the work must have ended; infinite without a limit.
            first_s: seconds that must be left to start the first block.
        """
        self._clock = clock
        self._end = end
        self._first_s = first_s
        self._slowest_s: dict[int, float] = {}  # by size of the block
        self._num_measured = 0
        self._started_at = 0.0
        self._size = 0
        self._first_end = 0.0
        self._first_share = 0.0

    def may_start(self, size: int = 1) -> bool:
        """Return whether a block of `size` may start.

        The time until the next call is recorded as its cost.
        """
        now = self._clock()
        if self._size:
            self._measure(now - self._started_at)
        self._started_at = now
        self._size = size
        left_s = self._end - now
        return left_s > 0 and left_s >= self._needed_s()

    def cannot_end(self, share: float) -> bool:
        """Return whether all-or-nothing work, of which `share` is done, cannot end in time.

        The time until the next call is recorded, as by `may_start`.
        """
        may_start = self.may_start()
        now = self._started_at
        if self._num_measured == 1:
            self._first_end = now
            self._first_share = share
        rest_s = 0.0
        measured_share = share - self._first_share
        if measured_share > MIN_SHARE_FOR_PACE:
            rest_s = (now - self._first_end) / measured_share * (1 - share + AFTERWARDS)
        left_s = self._end - now
        return left_s <= 0 or left_s < rest_s or (share < 1 and not may_start)

    def _measure(self, took_s: float) -> None:
        if self._num_measured == 1:
            self._slowest_s.clear()
        self._slowest_s[self._size] = max(took_s, self._slowest_s.get(self._size, 0.0))
        self._num_measured += 1

    def _needed_s(self) -> float:
        comparable_s = [
            took_s * max(1.0, self._size / size)
            for size, took_s in self._slowest_s.items()
            if 2 * size >= self._size
        ]
        return SLOWDOWN * max(comparable_s) if comparable_s else self._first_s
