"""Images per second, with a clock that the test turns."""

from __future__ import annotations

import pytest

from delf_ext.training.throughput import Throughput


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def epoch(
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


def test_the_runs_first_step_is_left_out_and_no_other() -> None:
    throughput = Throughput(8, clock := Clock())
    assert epoch(throughput, clock, [30.0, 1.0, 3.0]) == {"loss": 1.0, "images_per_s": 16 / 4}
    assert epoch(throughput, clock, [3.0, 1.0]) == {"loss": 1.0, "images_per_s": 16 / 4}


def test_what_happens_between_steps_does_not_count() -> None:
    throughput = Throughput(4, clock := Clock())
    assert epoch(throughput, clock, [1.0, 0.5, 0.5], between_seconds=100.0)[
        "images_per_s"
    ] == pytest.approx(8 / 1)


def test_an_epoch_of_the_first_step_alone_has_no_figure() -> None:
    throughput = Throughput(8, clock := Clock())
    assert epoch(throughput, clock, [30.0]) == {"loss": 1.0}
    assert epoch(throughput, clock, [2.0])["images_per_s"] == 4


def test_the_rate_so_far_is_known_within_an_epoch() -> None:
    throughput = Throughput(8, clock := Clock())
    throughput.on_epoch_begin(0)
    found = []
    for step, seconds in enumerate([30.0, 1.0, 3.0]):
        found.append(throughput.images_per_s)
        throughput.on_train_batch_begin(step)
        clock.now += seconds
        throughput.on_train_batch_end(step)
    assert [*found, throughput.images_per_s] == [0.0, 0.0, 8.0, 4.0]
    throughput.on_epoch_begin(1)
    assert throughput.images_per_s == 0.0
