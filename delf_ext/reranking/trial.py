"""Measure what a re-ranking step costs by running its first blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from delf_ext.reranking.deadline import Deadline

# A trial ends after this share of the remaining time, but not before two blocks.
TRIAL_SHARE = 0.02


class Trial(Deadline):
    """Deadline that stops each loop of a step after its first blocks, and measures them.

    A step may have several loops, one after the other (neighbours, then queries). A loop that is
    stopped ends the trial: the loops behind it are not measured.
    """

    def __init__(self, deadline: Deadline) -> None:
        """Start a trial that ends at `deadline` at the latest."""
        super().__init__(deadline.remaining_s(), deadline.clock)
        self.first_s = deadline.first_s
        self._stop_at = self.end - (1 - TRIAL_SHARE) * self.seconds
        # Per loop: clock reading and share done, at its start and after each block.
        self._loops: list[list[tuple[float, float]]] = []

    def blocks(
        self, num_queries: int, block_size: int, what: str = "re-ranking"
    ) -> Iterator[slice]:
        """Yield the first blocks of `Deadline.blocks`."""
        is_measured = self._new_loop()
        for block in super().blocks(num_queries, block_size, f"measuring {what}"):
            yield block
            if is_measured(block.stop / num_queries):
                return

    def give_up(self) -> Callable[[float], bool]:
        """Return the callback of `Deadline.give_up`; it is also True at the end of the trial."""
        is_measured = self._new_loop()
        cannot_end = super().give_up()

        def must_stop(share: float) -> bool:
            return is_measured(share) or cannot_end(share)

        return must_stop

    def whole_s(self) -> float:
        """Return the seconds of the whole step at this pace; infinity if nothing was measured."""
        return sum(map(_whole_s, self._loops)) if self._loops else math.inf

    def _new_loop(self) -> Callable[[float], bool]:
        marks = [(self.clock(), 0.0)]
        self._loops.append(marks)

        def is_measured(share: float) -> bool:
            marks.append((self.clock(), share))
            return share < 1 and len(marks) > 2 and self.clock() > self._stop_at

        return is_measured


def _whole_s(marks: list[tuple[float, float]]) -> float:
    """Return the seconds of a whole loop, without the first block, which also loads and compiles."""
    end, share = marks[-1]
    begun, before = marks[1] if len(marks) > 2 else marks[0]
    if share <= before:
        begun, before = marks[0]
    return (end - begun) / (share - before) if share > before else math.inf
