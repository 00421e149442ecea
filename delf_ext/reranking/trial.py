"""Measure what a re-ranking step costs by running its first blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from delf_ext.reranking.deadline import Deadline

# A trial ends after this share of the remaining time, but not before two blocks.
MAX_TRIAL_SHARE = 1 / 16


class Trial(Deadline):
    """Deadline that stops each loop of a step after its first full block, and measures it.

    A step may have several loops, one after the other (neighbours, then queries). A loop that is
    stopped ends the trial: the loops behind it are not measured.
    """

    def __init__(self, deadline: Deadline) -> None:
        """Start a trial that ends at `deadline` at the latest."""
        super().__init__(deadline.remaining_s(), deadline.clock)
        self.first_s = deadline.first_s
        self._stop_at = self.end - (1 - MAX_TRIAL_SHARE) * self.seconds
        # Per loop: clock reading and share done, at its start and after each block.
        self._loops: list[list[tuple[float, float]]] = []

    def blocks(
        self, num_queries: int, block_size: int, what: str = "re-ranking"
    ) -> Iterator[slice]:
        """Yield the first blocks of `Deadline.blocks`."""
        marks = self._start_loop()
        for block in super().blocks(num_queries, block_size, f"measuring {what}"):
            yield block
            now = self.clock()
            marks.append((now, block.stop / num_queries))
            is_full = block.stop - block.start == block_size
            if block.start > 0 and (is_full or now > self._stop_at):
                return

    def give_up(self) -> Callable[[float], bool]:
        """Return the callback of `Deadline.give_up`; it is True after the second step."""
        marks = self._start_loop()
        cannot_end = super().give_up()

        def must_stop(share: float) -> bool:
            marks.append((self.clock(), share))
            return cannot_end(share) or (share < 1 and len(marks) > 2)

        return must_stop

    def whole_s(self) -> float:
        """Return the seconds of the whole step at this pace; infinity if nothing was measured."""
        return sum(map(_whole_s, self._loops)) if self._loops else math.inf

    def _start_loop(self) -> list[tuple[float, float]]:
        marks = [(self.clock(), 0.0)]
        self._loops.append(marks)
        return marks


def _whole_s(marks: list[tuple[float, float]]) -> float:
    """Return the seconds of a whole loop at the pace of its last block."""
    end, share = marks[-1]
    if share == 1:
        return end - marks[0][0]
    if len(marks) == 1:
        return math.inf
    start, share_before = marks[-2]
    return (end - start) / (share - share_before)
