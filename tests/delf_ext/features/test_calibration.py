"""Which batch and threads a short trial chooses, on a clock that tests turn; and that it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from data_io.artifacts import write_json
from delf_ext.features.calibration import BATCH_SIZES, BUDGET_S, Setting, calibrate, settled, stored_setting


class Machine:
    """seconds: (images, threads) -> how long a call takes."""

    def __init__(self, seconds: Callable[[int, int], float]) -> None:
        self.seconds, self.now_s, self.calls = seconds, 0.0, list[tuple[int, int]]()

    def clock(self) -> float:
        return self.now_s

    def with_threads(self, threads: int) -> Callable[[np.ndarray], np.ndarray]:
        def embed(images: np.ndarray) -> np.ndarray:
            assert images.dtype == np.uint8 and images.shape[1:] == (4, 4, 3)
            self.calls.append((len(images), threads))
            self.now_s += self.seconds(len(images), threads)
            return images[:, 0, 0]

        return embed

    def calibrate(self, *threads: int) -> Setting:
        return calibrate(self.with_threads, 4, threads, self.clock)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (lambda images, threads: 0.01 + images / 1000, Setting(64, 2, 64 / 0.074)),
        (lambda images, threads: images / 1000, Setting(8, 2, 1000.0)),  # a larger batch must be worth it
        (lambda images, threads: images / 1000 * (1 if threads == 1 else 1.5), Setting(8, 1, 1000.0)),
        (lambda images, threads: images / 1000 + (images > 16), Setting(8, 2, 1000.0)),  # a cache is full
    ],
)
def test_the_fastest_setting_is_chosen(seconds: Callable[[int, int], float], expected: Setting):
    chosen = Machine(seconds).calibrate(2, 1)
    assert (chosen.batch_size, chosen.threads) == (expected.batch_size, expected.threads)
    assert chosen.images_per_s == pytest.approx(expected.images_per_s)


def test_a_slow_machine_tries_only_what_it_has_time_for():
    machine = Machine(lambda images, threads: images / 10)
    machine.calibrate(2, 1)
    assert {images for images, _ in machine.calls} == {1, 8, 16} and machine.now_s <= 2 * 0.1 + BUDGET_S
    slower = Machine(lambda images, threads: images)
    assert slower.calibrate(2).batch_size == BATCH_SIZES[0] and len(slower.calls) == 1 + 3


def test_a_setting_is_measured_once_and_kept(tmp_path: Path):
    path, setting = tmp_path / "cache" / "one.json", Setting(32, 2, 40.0)
    assert settled(path, lambda: setting) == (setting, True)
    assert settled(path, lambda: pytest.fail("measured again")) == (setting, False)


def test_two_processes_end_with_one_setting(tmp_path: Path):
    path, first = tmp_path / "one.json", Setting(8, 1, 50.0)

    def while_another_is_quicker() -> Setting:
        write_json(path, asdict(first))
        return Setting(64, 2, 49.0)

    assert settled(path, while_another_is_quicker) == (first, True)


@pytest.mark.parametrize("content", ["", "[]", '{"batch_size": 0, "threads": 1, "images_per_s": 1}', '{"batch_size": "8"}'])
def test_a_damaged_setting_is_measured_anew(tmp_path: Path, content: str):
    path = tmp_path / "one.json"
    path.write_text(content)
    assert stored_setting(path) is None
    assert settled(path, lambda: Setting(16, 2, 30.0))[1] and stored_setting(path) == Setting(16, 2, 30.0)
