"""From a built network to a trained one: stages, epochs, evaluation on held-out images, checkpoints, curves."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import tensorflow as tf

from data_io.progress import Log
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.recipes.schema import Recipe, Stage
from delf_ext.training.objective import Objective
from delf_ext.training.optimizers import Group, build_groups, require_groups
from delf_ext.training.state import RunState
from delf_ext.training.throughput import Throughput

EpochBatches = Callable[[int, int], tf.data.Dataset]
"""(epoch, first step within it) -> batches of (images, labels)."""
Evaluate = Callable[[], Mapping[str, float]]

ESTIMATE_AFTER_STEPS = 3
LONG_EPOCHS_S, HOUR_S = (
    600.0,
    3600.0,
)  # a whole run that is shorter needs no forecast, or no way out


class Listener(Protocol):
    """Who wants to know how training goes: a platform that draws curves and keeps checkpoints."""

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        """Called when the state of this step is saved. epoch: how many have ended; means: the losses of the last."""

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        """Called after an evaluation. is_best: so far, and then the state of this step is saved."""


@dataclass(frozen=True)
class Progress:
    """How a run shows and keeps what it does.

    run_dir: checkpoint/ and the events of TensorBoard are written there. checkpoint_every_steps: steps between two
    checkpoints. resume: continue from the last one. evaluate: returns metrics on the held-out images, or is None.
    """

    run_dir: Path
    log: Log
    evaluate: Evaluate | None = None
    listener: Listener | None = None
    resume: bool = False
    checkpoint_every_steps: int = 50


class _Watch(tf.keras.callbacks.Callback):
    """After each batch: counts the step, saves and evaluates when it is time, writes TensorBoard's curves."""

    def __init__(
        self,
        recipe: Recipe,
        steps_per_epoch: int,
        state: RunState,
        progress: Progress,
        step: int,
        throughput: Throughput,
    ) -> None:
        super().__init__()
        self.recipe, self.state, self.progress, self.step = recipe, state, progress, step
        self.steps_per_epoch, self.throughput = steps_per_epoch, throughput
        self.writer = tf.summary.create_file_writer(str(progress.run_dir))
        self.every_steps = recipe.validation.every_steps if recipe.validation else 0
        self.evaluated_at = -1
        self.steps_here = 0

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self.step += 1
        self.steps_here += 1
        if self.steps_here == ESTIMATE_AFTER_STEPS:
            self.estimate()
        if self.step % self.progress.checkpoint_every_steps == 0:
            self.state.save(self.step)
        if self.every_steps and self.step % self.every_steps == 0:
            self.evaluate()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.curves({f"train/{name}": value for name, value in (logs or {}).items()})
        self.state.save(self.step)
        if self.progress.listener is not None:
            self.progress.listener.epoch_ended(epoch + 1, self.step, dict(logs or {}))
        self.model.stop_training = True  # each epoch has batches of its own, so each is one `fit`

    def estimate(self) -> None:
        """Say how long an epoch takes on this machine, where the run is a long one."""
        rate = self.throughput.images_per_s
        if not rate:
            return
        epoch_s = self.steps_per_epoch * self.recipe.batch_size / rate
        total_s = epoch_s * self.recipe.epochs
        if total_s > LONG_EPOCHS_S:
            hint = ". For minutes instead of hours: --debug" if total_s > HOUR_S else ""
            self.progress.log(
                f"\n{rate:.1f} images/s: an epoch takes about {duration(epoch_s)} on this machine, "
                f"{self.recipe.epochs} epochs {duration(total_s)}{hint}"
            )

    def evaluate(self) -> None:
        if self.progress.evaluate is None or self.evaluated_at == self.step:
            return
        self.evaluated_at = self.step
        metrics = dict(self.progress.evaluate())
        best = self.state.save_if_best(self.step, metrics[self.state.select_by])
        self.curves({f"dev/{name}": value for name, value in metrics.items()})
        names = dict.fromkeys((self.state.select_by, "mAP", "recall_at_1", "mean_last_rank"))
        shown = " ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)
        self.progress.log(
            f"\nstep {self.step}: dev {shown}{' (best so far, kept)' if best else ''}"
        )
        if self.progress.listener is not None:
            if best:
                self.state.save(self.step)
            self.progress.listener.evaluated(self.step, metrics, best)

    def curves(self, values: Mapping[str, float]) -> None:
        with self.writer.as_default(step=self.step):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        self.writer.flush()


def train(
    recipe: Recipe,
    model: EmbeddingModel,
    epoch_batches: EpochBatches,
    steps_per_epoch: int,
    progress: Progress,
) -> dict[str, float]:
    """Train a built model for the stages of its recipe.

    Args:
        recipe: losses, optimizer, stages, validation and task are read.
        model: all of it is saved; with a frozen trunk its heads are trained, on feature maps.
        epoch_batches: see EpochBatches.
        steps_per_epoch: batches in a whole epoch.
        progress: where the run is kept and who is told.

    Returns:
        The means of the last epoch, and `images_per_s` where it was measured.

    Raises:
        UsageError: for a part that is not built yet or a parameter group that does not exist.
        ValueError: when a run to be resumed has no readable checkpoint.
    """
    parameters = model.parameters()
    require_groups(recipe, parameters)
    objective = Objective(model.heads if recipe.model.trunk.is_frozen else model, recipe.losses)
    frozen = recipe.model.trunk.frozen
    groups = build_groups(recipe.optimizer, recipe.stages, steps_per_epoch, parameters, frozen)
    folder = progress.run_dir / "checkpoint"
    state = RunState(model.named_variables(), groups, folder, recipe.task.select_by, progress.log)
    total_steps = recipe.epochs * steps_per_epoch
    step = state.restore() if progress.resume else 0
    if not step:
        state.save(0)  # what it started from, for a run that is killed before its first checkpoint
    else:
        progress.log(f"continuing at step {step} of {total_steps}")
    throughput = Throughput(recipe.batch_size)
    watch = _Watch(recipe, steps_per_epoch, state, progress, step, throughput)
    logs = _fit(recipe, objective, groups, epoch_batches, steps_per_epoch, [throughput, watch])
    watch.evaluate()
    state.save(watch.step)
    return logs


def _fit(
    recipe: Recipe,
    objective: Objective,
    groups: Sequence[Group],
    epoch_batches: EpochBatches,
    steps_per_epoch: int,
    callbacks: list[tf.keras.callbacks.Callback],
) -> dict[str, float]:
    """Run one `fit` per epoch. The last callback is the watch: it keeps what the one before has measured."""
    watch = callbacks[-1]
    shown = 1 if sys.stdout.isatty() else 2  # a bar, or in a log a line per epoch
    logs: dict[str, float] = {}
    current: Stage | None = None
    while watch.step < recipe.epochs * steps_per_epoch:
        epoch, first_step = divmod(watch.step, steps_per_epoch)
        stage = stage_of(recipe.stages, epoch)
        if stage is not current:
            objective.prepare(groups, stage.trains)
            current = stage
        history = objective.fit(
            epoch_batches(epoch, first_step),
            epochs=recipe.epochs,
            initial_epoch=epoch,
            steps_per_epoch=steps_per_epoch - first_step,
            callbacks=callbacks,
            verbose=shown,
        )
        logs = {name: float(values[-1]) for name, values in history.history.items()}
    return logs


def stage_of(stages: Sequence[Stage], epoch: int) -> Stage:
    """Return the stage that an epoch belongs to."""
    for stage in stages:
        if epoch < stage.epochs:
            return stage
        epoch -= stage.epochs
    return stages[-1]


def duration(seconds: float) -> str:
    """Return "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
