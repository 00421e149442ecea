"""Measure how many images a network embeds in a second."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from delf_ext.features.embedder import Embed

WARM_UP = 2
"""Calls before the clock runs: the first one traces and compiles the network."""
MIN_CALLS = 3
MIN_SECONDS = 3.0


def images_per_second(
    embed: Embed,
    size_px: int,
    batch_size: int,
    min_seconds: float = MIN_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Measure the embedding alone, warmed up; reading and decoding of files do not count.

    Args:
        embed: the network.
        size_px: side S of its input.
        batch_size: images per call.
        min_seconds: the clock runs at least this long, and for MIN_CALLS calls.
        clock: returns seconds.

    Returns:
        Images per second, by the median of the calls: a short disturbance does not change it.
    """
    shape = (batch_size, size_px, size_px, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    for _ in range(WARM_UP):
        embed(images)
    seconds: list[float] = []
    while len(seconds) < MIN_CALLS or sum(seconds) < min_seconds:
        started = clock()
        embed(images)
        seconds.append(clock() - started)
    return batch_size / float(np.median(seconds))
