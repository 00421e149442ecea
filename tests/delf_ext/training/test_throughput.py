"""Check images per second, with a clock that the test sets."""

from __future__ import annotations

import time

import pytest

from delf_ext.training.throughput import Throughput


class Clock:
    """Clock that shows `now`."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock that is read instead of the real one."""
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


def run_epoch(
    throughput: Throughput,
    clock: Clock,
    step_seconds: list[float],
    between_seconds: float = 0.0,
) -> dict[str, float]:
    logs = {"loss": 1.0}
    throughput.on_epoch_begin(0)
    for step, seconds in enumerate(step_seconds):
        throughput.on_train_batch_begin(step)
        clock.now += seconds
        throughput.on_train_batch_end(step)
        clock.now += between_seconds
    throughput.on_epoch_end(0, logs)
    return logs


def test_only_the_first_step_of_a_run_is_not_measured(clock: Clock) -> None:
    throughput = Throughput(8)
    assert run_epoch(throughput, clock, [30.0, 1.0, 3.0]) == {"loss": 1.0, "images_per_s": 16 / 4}
    assert run_epoch(throughput, clock, [3.0, 1.0]) == {"loss": 1.0, "images_per_s": 16 / 4}


def test_time_between_steps_is_not_measured(clock: Clock) -> None:
    throughput = Throughput(4)
    logs = run_epoch(throughput, clock, [1.0, 0.5, 0.5], between_seconds=100.0)
    assert logs["images_per_s"] == pytest.approx(8 / 1)


def test_epoch_of_only_the_first_step_has_no_figure(clock: Clock) -> None:
    throughput = Throughput(8)
    assert run_epoch(throughput, clock, [30.0]) == {"loss": 1.0}
    assert run_epoch(throughput, clock, [2.0])["images_per_s"] == 4


def test_rate_is_available_within_an_epoch(clock: Clock) -> None:
    throughput = Throughput(8)
    throughput.on_epoch_begin(0)
    rates = []
    for step, seconds in enumerate([30.0, 1.0, 3.0]):
        rates.append(throughput.images_per_s)
        throughput.on_train_batch_begin(step)
        clock.now += seconds
        throughput.on_train_batch_end(step)
    assert [*rates, throughput.images_per_s] == [0.0, 0.0, 8.0, 4.0]
    throughput.on_epoch_begin(1)
    assert throughput.images_per_s == 0.0
