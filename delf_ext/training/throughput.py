"""Measure how many images per second training takes."""

from __future__ import annotations

import time
from typing import Any

import tensorflow as tf


class Throughput(tf.keras.callbacks.Callback):
    """Callback that adds `images_per_s` to the logs of an epoch, for the callbacks after it.

    It measures the steps with their wait for input, but not the time between them, in which
    checkpoints are saved and the dev split is evaluated. The first step of a stage traces the graph
    and is not measured. So an epoch of only this step has no figure.

    Attributes:
        is_traced: whether the graph of this stage was traced; set to False by each new stage.
    """

    def __init__(self, batch_size: int) -> None:
        """Measure batches of `batch_size` images."""
        super().__init__()
        self.batch_size = batch_size
        self.is_traced = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start to count from zero."""
        self.images = 0
        self.seconds = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the batch, unless it was the first of its stage."""
        if self.is_traced:
            self.images += self.batch_size
            self.seconds += time.perf_counter() - self.started
        self.is_traced = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the rate to the logs."""
        if logs is not None and self.seconds > 0:
            logs["images_per_s"] = self.images_per_s

    @property
    def images_per_s(self) -> float:
        """Images per second in this epoch so far; 0.0 before its second step."""
        return self.images / self.seconds if self.seconds else 0.0
