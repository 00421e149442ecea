"""Trains the baseline and leaves a run directory: recipe, facts, metrics, events and checkpoint."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from baseline_keras.batches import training_batches
from baseline_keras.network import LEARNING_RATE, build_network, compile_network
from baseline_keras.run_directory import (
    KIND,
    Settings,
    claim,
    latest_checkpoint,
    read_history,
    restore,
    save_checkpoint,
    write_history,
)
from baseline_keras.session import Session
from data_io.datasets import DataSet, load_dataset
from data_io.images import check_images

HISTORY = {
    "loss": "loss",
    "accuracy": "accuracy",
    "lr": "learning_rate",
}  # Keras' name -> training.json's name


def load_checked(path: str | Path) -> DataSet:
    """A data set whose every file has been decoded once; the bad ones are in `skipped`. Raises: ValueError as load_dataset."""
    dataset = load_dataset(path)
    train = check_images(dataset.train)
    gallery = train if dataset.gallery is dataset.train else check_images(dataset.gallery)
    return dataclasses.replace(
        dataset, train=train, query=check_images(dataset.query), gallery=gallery
    )


def train(
    dataset: DataSet,
    run_dir: str | Path,
    *,
    epochs: int = 100,
    batch_size: int = 64,
    image_size: int = 224,
    seed: int = 0,
    resume: bool = False,
    verbose: int | None = None,
    session: Session | None = None,
) -> dict[str, Any]:
    """Trains on `dataset.train`, writes the run directory and returns what its metrics/training.json holds.

    The classes are those that have training images. Expects files that decode (`load_checked`).
    verbose: Keras' (0 silent, 1 bar, 2 lines); by default a bar on a terminal, lines elsewhere.
    With `resume` a run that was killed loses at most the epoch it was in. session: the platform's, told of each epoch.
    Raises: ValueError on data, settings or a run directory that cannot be used; OSError when the disk refuses.
    """
    run_dir = Path(run_dir)
    if dataset.train.labels is None or not len(dataset.train):
        raise ValueError(
            f"{dataset.name}: no labelled training image that can be read; the baseline is a classifier."
        )
    if verbose is None:
        verbose = 1 if sys.stdout.isatty() else 2
    present, labels = np.unique(dataset.train.labels, return_inverse=True)
    class_names = tuple(dataset.class_names[label] for label in present)
    tf.keras.utils.set_random_seed(seed)
    network = build_network(len(class_names), image_size)
    settings = Settings(image_size, len(class_names), epochs, batch_size)
    claim(run_dir, settings, seed, dataset.name, class_names, resume)
    compile_network(network)
    run = _Run(
        run_dir,
        network,
        {"num_train": len(dataset.train), "num_skipped": len(dataset.skipped)},
        session,
    )
    if run.epochs_done < epochs:
        first = run.epochs_done
        batches = training_batches(
            dataset.train, labels.astype(np.int64), image_size, batch_size, seed, first, epochs
        )
        _fit(network, batches, math.ceil(len(labels) / batch_size), epochs, run, verbose)
    return run.metrics()


def _fit(
    network: tf.keras.Sequential,
    batches: tf.data.Dataset,
    steps_per_epoch: int,
    epochs: int,
    run: _Run,
    verbose: int,
) -> None:
    callbacks = [ReplayedPlateau(list(run.history["accuracy"])), run]
    try:
        network.fit(
            batches,
            epochs=epochs,
            initial_epoch=run.epochs_done,
            steps_per_epoch=steps_per_epoch,
            callbacks=callbacks,
            verbose=verbose,
        )
    except tf.errors.OpError as error:
        raise ValueError(f"training stopped: {_reason(error)}") from error


def _reason(error: tf.errors.OpError) -> str:
    """The line of a TensorFlow error that tells the cause: `ImageError: path: truncated`."""
    lines = [line.strip() for line in error.message.splitlines() if "Error: " in line]
    return lines[0] if lines else error.message.splitlines()[0]


class ReplayedPlateau(tf.keras.callbacks.ReduceLROnPlateau):
    """The official ReduceLROnPlateau(accuracy, patience 3); in a resumed run it first replays the epochs before.

    The official loop called `fit` once per epoch, which reset this callback each time, so that it never acted; here it does
    what its setting says.
    """

    def __init__(self, past_accuracies: list[float]) -> None:
        super().__init__(monitor="accuracy", patience=3)
        self.past_accuracies = past_accuracies

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        self.model.optimizer.learning_rate = LEARNING_RATE
        for epoch, accuracy in enumerate(self.past_accuracies):
            self.on_epoch_end(epoch, {"accuracy": accuracy})


class _Run(tf.keras.callbacks.Callback):
    """After each epoch: metrics/training.json, events, and last the checkpoint, which decides what `--resume` continues."""

    def __init__(
        self,
        run_dir: Path,
        network: tf.keras.Sequential,
        facts: dict[str, int],
        session: Session | None = None,
    ) -> None:
        super().__init__()
        self.run_dir, self.facts, self.session = run_dir, facts, session
        self.checkpoint = tf.train.Checkpoint(network=network, optimizer=network.optimizer)
        self.history: dict[str, list[float]] = {name: [] for name in HISTORY.values()}
        self.epochs_done = 0
        latest = latest_checkpoint(run_dir)
        if latest is not None:
            restore(self.checkpoint, latest[0])
            self.epochs_done = latest[1]
            stored = read_history(run_dir)
            # Killed between the two writes, the metrics are one epoch ahead of the weights.
            self.history = {name: stored[name][: self.epochs_done] for name in self.history}
        self.events = tf.summary.create_file_writer(str(run_dir))

    def metrics(self) -> dict[str, Any]:
        return {"system": KIND, "epochs_done": self.epochs_done, **self.facts, **self.history}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for keras_name, name in HISTORY.items():
            value = float((logs or {})[keras_name])
            self.history[name].append(value)
            with self.events.as_default():
                tf.summary.scalar(f"epoch_{name}", value, step=epoch)
        self.events.flush()
        self.epochs_done = epoch + 1
        write_history(self.run_dir, self.metrics())
        save_checkpoint(self.run_dir, self.checkpoint, self.epochs_done)
        if self.session is not None:
            self.session.epoch_ended(epoch, self.history["loss"][-1], self.history["accuracy"][-1])
