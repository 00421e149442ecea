"""How many images per second training takes: beside each epoch's losses, where those are shown and kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf


class Throughput(tf.keras.callbacks.Callback):
    """Adds `images_per_s` to the epoch's logs: stands before the callbacks that read them.

    Counts the steps with their wait for input, and nothing between them: checkpoints and dev evaluation cost time of their own.
    The run's first step traces the graph and is left out, so an epoch of that step alone has no figure.
    """

    def __init__(self, batch_size: int, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self.batch_size, self.clock = batch_size, clock
        self.traced = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.images, self.seconds = 0, 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.started = self.clock()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.traced:
            self.images += self.batch_size
            self.seconds += self.clock() - self.started
        self.traced = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None and self.seconds > 0:
            logs["images_per_s"] = self.images_per_s

    @property
    def images_per_s(self) -> float:
        """The rate of this epoch so far; 0.0 before its second step."""
        return self.images / self.seconds if self.seconds else 0.0
