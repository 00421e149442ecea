"""Train the baseline and write its run directory."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from baseline_keras.batches import training_batches
from baseline_keras.network import LEARNING_RATE, NOT_FINITE, build_network, compile_network
from baseline_keras.run_directory import (
    KIND,
    Settings,
    claim,
    latest_checkpoint,
    read_history,
    require_same_run,
    restore,
    save_checkpoint,
    write_history,
)
from baseline_keras.session import Session
from data_io.checkpoint_folder import writable_folder
from data_io.datasets import DataSet, load_dataset
from data_io.datasets.layouts import AUTO
from data_io.files.skipped_files import count_skipped
from data_io.images import check_images
from data_io.photographs import Photographs, digests_of
from delf_ext.runs.training_lock import only_training
from delf_ext.training.finite import NotFinite, first_not_finite

# Keras' name of a figure -> its name in metrics/training.json.
HISTORY = {"loss": "loss", "accuracy": "accuracy", "lr": "learning_rate"}


def load_checked(path: str | Path, merge_labels: bool = False, layout: str = AUTO) -> DataSet:
    """Load a data set and decode each image once; list bad files in `skipped`.

    Args:
        path: the data set, in any form that `load_dataset` reads.
        merge_labels: join labels that differ only in how they are written.
        layout: how to read a folder; "auto" finds out.

    Returns:
        The data set, with readable images only.
    """
    dataset = load_dataset(path, merge_labels=merge_labels, layout=layout)
    train = check_images(dataset.train)
    gallery = train if dataset.gallery is dataset.train else check_images(dataset.gallery)
    query = check_images(dataset.query)
    return dataclasses.replace(dataset, train=train, query=query, gallery=gallery)


def num_skipped(dataset: DataSet) -> int:
    """Return the number of files that were seen but are in no list of the data set."""
    return len(count_skipped(dataset.skipped, dataset.paths).files)


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
    """Train on `dataset.train` and write the run directory.

    The classes are those that have training images. Images without a label are left out.

    Args:
        dataset: with readable images only, from `load_checked`.
        run_dir: the run directory.
        epochs: of the whole training.
        batch_size: images per training step.
        image_size: side of the input in pixels.
        seed: of the first weights, the order and the augmentation.
        resume: whether to continue a run; a run that was killed loses at most one epoch.
        verbose: as in Keras: 0 silent, 1 progress bar, 2 lines; None: a bar on a terminal, lines
            elsewhere.
        session: of NSML; it is called after each epoch.

    Returns:
        The content of metrics/training.json.

    Raises:
        ValueError: data, settings or run directory cannot be used, another process trains this
            run, or the loss is not finite any more.
    """
    run_dir = Path(run_dir)
    if dataset.train.labels is None or not len(dataset.train):
        raise ValueError(
            f"{dataset.name}: has no readable training image with a label, but the baseline is a "
            "classifier."
        )
    if verbose is None:
        verbose = 1 if sys.stdout.isatty() else 2
    images = dataset.train.labelled()
    present, labels = np.unique(images.known_labels("training"), return_inverse=True)
    class_names = tuple(dataset.class_names[label] for label in present)
    settings = Settings(image_size, len(class_names), epochs, batch_size)
    photographs = Photographs(trained=digests_of(images, dataset.class_names))
    with only_training(run_dir):
        require_same_run(run_dir, settings, seed, class_names, resume, photographs)
        tf.keras.utils.set_random_seed(seed)
        network = build_network(len(class_names), image_size)
        compile_network(network)
        counts = {"num_train": len(images), "num_skipped": num_skipped(dataset)}
        # The state is read before a file of the run is replaced.
        writer = _RunWriter(run_dir, network, counts, session)
        claim(run_dir, settings, seed, dataset.name, class_names, resume, photographs)
        if writer.epochs_done < epochs:
            classes = labels.astype(np.int64)
            first_epoch = writer.epochs_done
            batches = training_batches(
                images, classes, image_size, batch_size, seed, first_epoch, epochs
            )
            steps_per_epoch = math.ceil(len(labels) / batch_size)
            _fit(network, batches, steps_per_epoch, epochs, writer, verbose)
        return writer.metrics()


def _fit(
    network: tf.keras.Sequential,
    batches: tf.data.Dataset,
    steps_per_epoch: int,
    epochs: int,
    writer: _RunWriter,
    verbose: int,
) -> None:
    callbacks = [ReplayedPlateau(list(writer.history["accuracy"])), writer]
    try:
        network.fit(
            batches,
            epochs=epochs,
            initial_epoch=writer.epochs_done,
            steps_per_epoch=steps_per_epoch,
            callbacks=callbacks,
            verbose=verbose,
        )
    except tf.errors.OpError as error:
        if NOT_FINITE in error.message:
            step = int(network.optimizer.iterations) + 1
            raise writer.not_finite(NOT_FINITE, step) from None
        raise ValueError(f"training stopped: {_reason(error)}") from error


def _reason(error: tf.errors.OpError) -> str:
    """Return the line of a TensorFlow error with the cause, e.g. `ImageError: path: truncated`."""
    lines = [line.strip() for line in error.message.splitlines() if "Error: " in line]
    return lines[0] if lines else error.message.splitlines()[0]


class ReplayedPlateau(tf.keras.callbacks.ReduceLROnPlateau):
    """Official ReduceLROnPlateau(accuracy, patience 3), which a resumed run starts with its past.

    The official loop called `fit` once per epoch. That reset the callback each time, so it never
    reduced the learning rate. Here it does.

    Attributes:
        past_accuracies: of the epochs before the resume.
    """

    def __init__(self, past_accuracies: list[float]) -> None:
        super().__init__(monitor="accuracy", patience=3)
        self.past_accuracies = past_accuracies

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Set the official learning rate and replay the past epochs."""
        super().on_train_begin(logs)
        self.model.optimizer.learning_rate = LEARNING_RATE
        for epoch, accuracy in enumerate(self.past_accuracies):
            self.on_epoch_end(epoch, {"accuracy": accuracy})


class _RunWriter(tf.keras.callbacks.Callback):
    """Writer of events, metrics/training.json and checkpoint after each epoch.

    The checkpoint is written last, because `--resume` continues after it.
    """

    def __init__(
        self,
        run_dir: Path,
        network: tf.keras.Sequential,
        counts: dict[str, int],
        session: Session | None = None,
    ) -> None:
        super().__init__()
        self.run_dir = run_dir
        self.counts = counts
        self.session = session
        self.checkpoint = tf.train.Checkpoint(network=network, optimizer=network.optimizer)
        self.history: dict[str, list[float]] = {name: [] for name in HISTORY.values()}
        self.epochs_done = 0
        latest = latest_checkpoint(run_dir)
        if latest is not None:
            prefix, self.epochs_done = latest
            restore(self.checkpoint, prefix)
            stored = read_history(run_dir)
            # If the run was killed between the two writes, the metrics hold one epoch too many.
            self.history = {name: stored[name][: self.epochs_done] for name in self.history}
        self.events = tf.summary.create_file_writer(writable_folder(Path(run_dir)))

    def not_finite(self, what: str, step: int) -> NotFinite:
        """Return the error for a loss or a weight that is not finite."""
        kept = "No checkpoint was saved yet."
        latest = latest_checkpoint(self.run_dir)
        if latest is not None:
            kept = f"The last good checkpoint, {latest[0]}, is kept."
        return NotFinite(
            f"training stopped at step {step}: {what}. {kept} Likely remedies: another --seed or "
            "--batch_size in a new --run_dir; labels and images without errors."
        )

    def metrics(self) -> dict[str, Any]:
        return {"system": KIND, "epochs_done": self.epochs_done, **self.counts, **self.history}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        figures = logs or {}
        variables = {variable.name: variable for variable in self.model.variables}
        spoilt = first_not_finite(variables)
        if spoilt:
            step = int(self.model.optimizer.iterations)
            raise self.not_finite(f"{spoilt} is not finite any more", step)
        for keras_name, name in HISTORY.items():
            value = float(figures[keras_name])
            self.history[name].append(value)
            with self.events.as_default():
                tf.summary.scalar(f"epoch_{name}", value, step=epoch)
        self.events.flush()
        self.epochs_done = epoch + 1
        write_history(self.run_dir, self.metrics())
        save_checkpoint(self.run_dir, self.checkpoint, self.epochs_done)
        if self.session is not None:
            self.session.epoch_ended(epoch, self.history["loss"][-1], self.history["accuracy"][-1])
