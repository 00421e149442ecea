"""Test the measurement of images per second with a clock of its own."""

from __future__ import annotations

import itertools

import numpy as np

from delf_ext.features.speed import MIN_CALLS, WARM_UP, images_per_second


def test_speed_is_the_median_after_the_warm_up() -> None:
    shapes = []
    # Seconds of the calls that count: the second one was disturbed.
    times = iter(itertools.accumulate([0, 2, 0, 90, 0, 2]))

    def embed(images: np.ndarray) -> np.ndarray:
        shapes.append((images.shape, images.dtype))
        return np.zeros((len(images), 4), np.float32)

    assert images_per_second(embed, 16, 8, min_seconds=0, clock=lambda: next(times)) == 8 / 2
    assert shapes == [((8, 16, 16, 3), np.uint8)] * (WARM_UP + MIN_CALLS)


def test_clock_runs_long_enough() -> None:
    times = iter(np.arange(0, 100, 0.5))
    calls = []
    images_per_second(calls.append, 16, 8, min_seconds=3, clock=lambda: next(times))
    assert len(calls) == WARM_UP + 6
