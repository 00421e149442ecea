"""From a built network to a trained one: epochs, dev evaluation, checkpoints, curves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import tensorflow as tf

from delf_ext.config import TrainConfig
from delf_ext.training.objective import Objective
from delf_ext.training.schedules import learning_rate
from delf_ext.training.state import RunState
from delf_ext.training.throughput import Throughput

EpochBatches = Callable[[int, int], tf.data.Dataset]  # (epoch, first step within it) -> batches
EvaluateDev = Callable[[], Mapping[str, float]]


class Listener(Protocol):
    """Who wants to know how training goes: a platform that draws curves and keeps checkpoints."""

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        """The state of this step is saved. epoch: how many have ended; means: the losses of the last."""

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        """On the dev split. is_best: so far, and then the state of this step is saved."""


@dataclass
class _Watch(tf.keras.callbacks.Callback):
    """After each batch: counts the step, saves and evaluates when it is time, writes TensorBoard's curves."""

    state: RunState
    config: TrainConfig
    evaluate_dev: EvaluateDev | None
    writer: tf.summary.SummaryWriter
    step: int
    listener: Listener | None

    def __post_init__(self) -> None:
        super().__init__()
        self.evaluated_at = -1

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self.step += 1
        if self.step % self.config.checkpoint_every_steps == 0:
            self.state.save(self.step)
        if self.step % self.config.eval_every_steps == 0:
            self.evaluate()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.curves({f"train/{name}": value for name, value in (logs or {}).items()})
        self.state.save(self.step)
        if self.listener is not None:
            self.listener.epoch_ended(epoch + 1, self.step, dict(logs or {}))
        self.model.stop_training = True  # each epoch has batches of its own, so each is one `fit`

    def evaluate(self) -> None:
        if self.evaluate_dev is None or self.evaluated_at == self.step:
            return
        self.evaluated_at = self.step
        metrics = dict(self.evaluate_dev())
        best = self.state.save_if_best(self.step, metrics["mAP"])
        self.curves({f"dev/{name}": value for name, value in metrics.items()})
        shown = " ".join(f"{name} {metrics[name]:.4f}" for name in ("mAP", "recall_at_1", "mean_last_rank"))
        print(f"\nstep {self.step}: dev {shown}{' (best so far, kept)' if best else ''}", flush=True)
        if self.listener is not None:
            if best:
                self.state.save(self.step)
            self.listener.evaluated(self.step, metrics, best)

    def curves(self, values: Mapping[str, float]) -> None:
        with self.writer.as_default(step=self.step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self.writer.flush()


def train(
    objective: Objective,
    network: tf.keras.Model,
    epoch_batches: EpochBatches,
    steps_per_epoch: int,
    config: TrainConfig,
    run_dir: Path,
    evaluate_dev: EvaluateDev | None = None,
    resume: bool = False,
    listener: Listener | None = None,
) -> dict[str, float]:
    """Trains for config.epochs; returns the last epoch's means, and its images per second as `images_per_s` where they were
    measured (see Throughput). With `resume`, continues from the last checkpoint.

    network: what is saved; the objective trains all of it or, with a frozen trunk, its heads.
    evaluate_dev: returns at least mAP, recall_at_1 and mean_last_rank; the weights with the best mAP are kept apart.
    """
    total_steps = config.epochs * steps_per_epoch
    objective.set_optimizers(
        tf.keras.optimizers.Adam(learning_rate(config.lr, config.lr_schedule, total_steps)),
        tf.keras.optimizers.Adam(learning_rate(config.lr * config.classifier_lr_factor, config.lr_schedule, total_steps)),
    )
    state = RunState(objective, network, run_dir / "checkpoint")
    step = state.restore() if resume else 0
    if step:
        print(f"continuing at step {step} of {total_steps}", flush=True)
    watch = _Watch(state, config, evaluate_dev, tf.summary.create_file_writer(str(run_dir)), step, listener)
    callbacks = [Throughput(config.batch_size), watch]  # in this order: the watch keeps what the other measured
    shown = 1 if sys.stdout.isatty() else 2  # a bar, or in a log a line per epoch
    logs: dict[str, float] = {}
    while watch.step < total_steps:
        epoch, first_step = divmod(watch.step, steps_per_epoch)
        batches = epoch_batches(epoch, first_step)
        steps = steps_per_epoch - first_step
        history = objective.fit(
            batches, epochs=config.epochs, initial_epoch=epoch, steps_per_epoch=steps, callbacks=callbacks, verbose=shown
        )
        logs = {name: float(values[-1]) for name, values in history.history.items()}
    watch.evaluate()
    state.save(watch.step)
    return logs
