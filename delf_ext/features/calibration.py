"""How many images a batch, and on how many threads: tried for a few seconds, then kept per machine and network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data_io.artifacts import read_json, write_json
from delf_ext.config import strict
from delf_ext.features.fast_runtime import Run

BATCH_SIZES = (8, 16, 32, 64)
BUDGET_S = 8.0
WORTH = 1.03  # a larger batch, or fewer threads, must be faster by this: less is noise, and costs memory


@dataclass(frozen=True)
class Setting:
    """threads: 0 leaves them to the runtime. images_per_s: where it was chosen."""

    batch_size: int
    threads: int
    images_per_s: float

    def __post_init__(self) -> None:
        if not (type(self.batch_size) is type(self.threads) is int and self.batch_size >= 1 and self.threads >= 0):
            raise ValueError(f"batch_size and threads are whole numbers. Received {self}.")


def calibrate(
    with_threads: Callable[[int], Run], image_size: int, threads: Sequence[int], clock: Callable[[], float] = time.perf_counter
) -> Setting:
    """The fastest of BATCH_SIZES and `threads`, by the better of two calls each. Tries one, and then what fits into BUDGET_S."""
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH_SIZES[-1], image_size, image_size, 3), np.uint8)
    runs = {number: with_threads(number) for number in threads}
    for embed in runs.values():
        embed(pixels[:1])  # what a network needs once, and would need anyhow, is not counted
    end, best = clock() + BUDGET_S, None
    for number, embed in runs.items():
        for batch_size in BATCH_SIZES:
            if best is not None and clock() + 3 * batch_size / best.images_per_s > end:
                break
            spent_s = [_seconds(embed, pixels[:batch_size], clock) for _ in range(3)][1:]  # the first call prepares the shape
            found = Setting(batch_size, number, batch_size / max(min(spent_s), 1e-9))
            if best is None or found.images_per_s > WORTH * best.images_per_s:
                best = found
    assert best is not None
    return best


def _seconds(embed: Run, pixels: np.ndarray, clock: Callable[[], float]) -> float:
    started = clock()
    embed(pixels)
    return clock() - started


def stored_setting(path: Path) -> Setting | None:
    """None when there is none, or a damaged one."""
    try:
        return strict(Setting, read_json(path))
    except (TypeError, ValueError, OSError):
        return None


def settled(path: Path, measure: Callable[[], Setting]) -> tuple[Setting, bool]:
    """The setting kept at `path`, or a measured one kept from now on; and whether it was measured. Two processes end with one."""
    known = stored_setting(path)
    if known is not None:
        return known, False
    found = measure()
    known = stored_setting(path)  # another process was quicker: equal batches make equal bytes
    if known is not None:
        return known, True
    write_json(path, asdict(found))
    return found, True
