"""Train a built model: stages, epochs, evaluation on the dev split, checkpoints and curves."""

from __future__ import annotations

import math
import operator
import sys
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Protocol

import tensorflow as tf

from data_io.checkpoint_folder import writable_folder
from data_io.datasets.data_set import counted
from data_io.progress import Log
from delf_ext.config import UsageError
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.necks import Dropout
from delf_ext.recipes.schema import Recipe, Stage
from delf_ext.training.averaging import Averages
from delf_ext.training.finite import require_finite_losses
from delf_ext.training.objective import Objective
from delf_ext.training.optimizers import Group, build_groups, is_in_any
from delf_ext.training.plateau import PlateauState, plateaus_of
from delf_ext.training.state import LOWER_IS_BETTER, RunState
from delf_ext.training.throughput import Throughput

EpochBatches = Callable[[int, int], tf.data.Dataset]
"""Function of (epoch, first step in it) that returns batches of (images, labels)."""
Evaluate = Callable[[], Mapping[str, float]]

SHOWN_METRICS = ("mAP", "recall_at_1", "mean_last_rank", "accuracy", "macro_f1", "gap")
"""Metrics of the dev split that are printed; TensorBoard has all."""
ESTIMATE_AFTER_STEPS = 3
# A run shorter than this needs no estimate.
LONG_RUN_S = 600.0
# A run longer than this also gets a hint how to train for minutes.
VERY_LONG_RUN_S = 3600.0


class Listener(Protocol):
    """Object that is called during training, for example to draw curves on a platform."""

    def epoch_ended(self, epoch: int, step: int, means: Mapping[str, float]) -> None:
        """Handle the end of an epoch, after the state of this step was saved.

        Args:
            epoch: number of epochs that ended.
            step: number of steps that ended.
            means: losses of this epoch by name.
        """

    def evaluated(self, step: int, metrics: Mapping[str, float], is_best: bool) -> None:
        """Handle an evaluation.

        Args:
            step: number of steps that ended.
            metrics: by name.
            is_best: whether it is the best so far; then the state of this step was saved.
        """


class Prepared(NamedTuple):
    """Optimizers of a run, its state on disk, and the plateau of each stage."""

    groups: list[Group]
    state: RunState
    plateaus: Sequence[PlateauState | None]


@dataclass(frozen=True)
class RunSettings:
    """Where and how a run is saved, evaluated and shown.

    Attributes:
        run_dir: checkpoint/ and the TensorBoard events are written here.
        log: called with each message.
        evaluate: returns metrics on the dev split; None without one.
        listener: called after epochs and evaluations.
        resume: continue from the newest checkpoint; not read if `prepared` is passed.
        prepared: optimizers and state that were restored or saved before.
        checkpoint_every_steps: save a checkpoint every N steps.
        seed: of dropout.
        images_per_class: training images of each class, by label; () for losses that do not weigh
            classes.
    """

    run_dir: Path
    log: Log
    evaluate: Evaluate | None = None
    listener: Listener | None = None
    resume: bool = False
    prepared: Prepared | None = None
    checkpoint_every_steps: int = 50
    seed: int = 0
    images_per_class: Sequence[int] = ()


class _RunCallback(tf.keras.callbacks.Callback):
    """Callback that counts the steps, and saves, evaluates and writes curves in time.

    Attributes:
        step: number of steps of the run that ended.
        dropouts: layers whose random numbers are set before each step.
    """

    def __init__(
        self,
        recipe: Recipe,
        steps_per_epoch: int,
        state: RunState,
        settings: RunSettings,
        step: int,
        plateaus: Sequence[PlateauState | None],
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self.plateaus = plateaus
        self.updated_step = step
        self.steps_per_epoch = steps_per_epoch
        self.state = state
        self.settings = settings
        self.step = step
        self.dropouts: list[Dropout] = []
        self.throughput = Throughput(recipe.batch_size)
        self.writer = tf.summary.create_file_writer(writable_folder(Path(settings.run_dir)))
        validation = recipe.validation
        self.evaluate_every_steps = (validation.every_steps or steps_per_epoch) if validation else 0
        self.evaluated_step = -1
        self.num_steps_here = 0

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Set the random numbers of this step, which a resumed run then has too."""
        for number, layer in enumerate(self.dropouts):
            layer.reseed(self.settings.seed, self.step, number)
        if self.model.gradient_sum is not None:
            self.model.gradient_sum.is_last.assign(self.is_update(self.step + 1))

    def is_update(self, step: int) -> bool:
        """Return whether a step changes the weights: the last of some batches, or of an epoch."""
        in_epoch = step % self.steps_per_epoch
        return in_epoch % self.recipe.batches_per_update == 0

    @property
    def stage_number(self) -> int:
        """Number of the stage of the last step, from 0."""
        return stage_number(self.recipe.stages, (self.step - 1) // self.steps_per_epoch)

    def is_due(self, every_steps: int) -> bool:
        """Return whether a multiple of `every_steps` was passed since the update before."""
        return self.step // every_steps > self.updated_step // every_steps

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Count the step; save and evaluate if it is time."""
        self.step += 1
        self.num_steps_here += 1
        # Keras reads the means after each step for its callbacks, so this costs nothing.
        require_finite_losses(self.losses_in(logs), self.step, self.state.advice)
        if self.num_steps_here == ESTIMATE_AFTER_STEPS:
            self.log_estimate()
        if self.is_update(self.step):
            self.updated()

    def updated(self) -> None:
        """Average, save and evaluate if it is time; the sum of gradients is empty now."""
        averages = self.state.averages
        if averages is not None and self.step % self.steps_per_epoch == 0:
            averages.epoch_ended(self.step // self.steps_per_epoch)
        if self.evaluate_every_steps and self.is_due(self.evaluate_every_steps):
            self.evaluate(follows=True)
        # After the evaluation: a run that is killed in it evaluates this step when it resumes.
        if self.is_due(self.settings.checkpoint_every_steps):
            self.state.save(self.step)
        self.updated_step = self.step

    def losses_in(self, logs: Mapping[str, float] | None) -> dict[str, float]:
        """Return the losses of a step, without accuracies and rates."""
        names = ("loss", *(term.shown_name for term in self.recipe.losses))
        return {name: float(logs[name]) for name in names if logs and name in logs}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Write the curves, save, and end this `fit`: each epoch has its own."""
        means = dict(logs or {})
        self.write_curves("train", means)
        self.state.save(self.step)
        if self.settings.listener is not None:
            self.settings.listener.epoch_ended(epoch + 1, self.step, means)
        self.model.stop_training = True

    def log_estimate(self) -> None:
        """Log how long an epoch takes on this machine, if the run is a long one."""
        rate = self.throughput.images_per_s
        if not rate:
            return
        epoch_s = self.steps_per_epoch * self.recipe.batch_size / rate
        costs = relative_costs(self.recipe)
        cost_now = costs[self.stage_number]
        epochs = [other.epochs for other in self.recipe.stages]
        run_s = epoch_s / cost_now * sum(map(operator.mul, epochs, costs))
        if run_s <= LONG_RUN_S:
            return
        hint = ". For minutes instead of hours: --debug" if run_s > VERY_LONG_RUN_S else ""
        self.settings.log(
            f"\n{rate:.1f} images/s: an epoch takes about {format_duration(epoch_s)} on this "
            f"machine{'' if len(set(costs)) == 1 else ' in this stage'}, "
            f"{self.recipe.epochs} epochs {format_duration(run_s)}{hint}"
        )

    def evaluate(self, follows: bool = False) -> None:
        """Evaluate on the dev split, unless this step was evaluated; keep the best weights.

        Args:
            follows: show the value to the plateau of this stage.
        """
        if self.settings.evaluate is None or self.evaluated_step == self.step:
            return
        self.evaluated_step = self.step
        # Without this check, numbers that are not finite would fail somewhere in the evaluation.
        self.state.require_finite(self.step)
        averages = self.state.averages
        with nullcontext() if averages is None else averages.applied():
            metrics = dict(self.settings.evaluate())
        select_by = self.state.select_by
        is_best = self.state.save_if_best(self.step, metrics[select_by])
        self.write_curves("dev", metrics)
        names = dict.fromkeys((select_by, *SHOWN_METRICS))
        shown = " ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)
        note = " (best so far, kept)" if is_best else ""
        self.settings.log(f"\nstep {self.step}: dev {shown}{note}")
        if follows:
            self.follow(metrics[select_by])
        if self.settings.listener is not None:
            if is_best:
                self.state.save(self.step)
            self.settings.listener.evaluated(self.step, metrics, is_best)

    def follow(self, value: float) -> None:
        """Show an evaluation to the plateau of this stage."""
        plateau = self.plateaus[self.stage_number]
        if plateau is not None and plateau.evaluated(
            value, self.state.select_by in LOWER_IS_BETTER
        ):
            self.settings.log(
                f"no better value in {counted(plateau.config.patience, 'evaluation')}: the "
                f"learning rate is now {float(plateau.factor):.3g} of the first one"
            )

    def write_curves(self, split: str, values: Mapping[str, float]) -> None:
        """Write values for TensorBoard, named "split/name"."""
        with self.writer.as_default(step=self.step):
            for name, value in values.items():
                tf.summary.scalar(f"{split}/{name}", value)
        self.writer.flush()


def prepare(
    recipe: Recipe,
    model: EmbeddingModel,
    steps_per_epoch: int,
    run_dir: Path,
    log: Log,
    class_names: Sequence[str] = (),
) -> Prepared:
    """Build the optimizers and the state of a run; nothing is read or written.

    Args:
        recipe: optimizer, stages and task are read.
        model: with variables.
        steps_per_epoch: batches in a whole epoch.
        run_dir: checkpoint/ is in it.
        log: called with each message.
        class_names: classes of the classifiers, by row.

    Returns:
        Optimizers and state.

    Raises:
        UsageError: if a part is not built yet.
    """
    plateaus = plateaus_of(recipe.stages)
    updates_per_epoch = math.ceil(steps_per_epoch / recipe.batches_per_update)

    def parts_of(
        model: EmbeddingModel,
    ) -> tuple[Mapping[str, tf.Variable], list[Group], Averages | None]:
        frozen = recipe.model.trunk.frozen
        parameters = model.parameters()
        groups = build_groups(
            recipe.optimizer, recipe.stages, updates_per_epoch, parameters, frozen, plateaus
        )
        weights = model.named_variables()
        changing = {
            parameter.name: parameter.variable
            for parameter in parameters
            if not is_in_any(parameter, frozen)
        }
        averages = Averages(recipe.averaging, changing) if recipe.averaging else None
        return weights, groups, averages

    def rebuild(
        num_classes: int,
    ) -> tuple[Mapping[str, tf.Variable], list[Group], Averages | None]:
        return parts_of(EmbeddingModel(recipe.model, num_classes).build_variables())

    weights, groups, averages = parts_of(model)
    state = RunState(
        weights,
        groups,
        run_dir / "checkpoint",
        recipe.task.select_by,
        log,
        class_names,
        rebuild,
        averages,
        tuple(dict.fromkeys(plateau for plateau in plateaus if plateau is not None)),
    )
    return Prepared(groups, state, plateaus)


def train(
    recipe: Recipe,
    model: EmbeddingModel,
    epoch_batches: EpochBatches,
    steps_per_epoch: int,
    settings: RunSettings,
) -> dict[str, float]:
    """Train a built model for the stages of its recipe.

    Args:
        recipe: losses, optimizer, stages, validation and task are read.
        model: all of it is saved; with a frozen trunk, its heads are trained on feature maps.
        epoch_batches: see `EpochBatches`.
        steps_per_epoch: batches in a whole epoch.
        settings: where and how the run is saved, evaluated and shown.

    Returns:
        Means of the last epoch, and `images_per_s` if it was measured. The model then has the
        averaged weights, if the recipe averages them.

    Raises:
        UsageError: if a part is not built yet, or a plateau has no dev split to follow.
        ValueError: if no checkpoint of a run to resume can be read.
    """
    is_frozen = recipe.model.trunk.is_frozen
    network = model.heads if is_frozen else model
    objective = Objective(network, recipe.losses, settings.images_per_class)
    if settings.prepared is None:
        prepared = prepare(recipe, model, steps_per_epoch, settings.run_dir, settings.log)
        step = prepared.state.restore() if settings.resume else 0
    else:
        prepared = settings.prepared
        step = int(prepared.state.step.numpy())
    groups, state, plateaus = prepared
    if state.plateaus and settings.evaluate is None:
        raise UsageError(
            "the schedule Plateau follows the evaluation on the dev split, and there is none: "
            "give the recipe a validation, or another schedule."
        )
    if step:
        settings.log(f"continuing at step {step} of {recipe.epochs * steps_per_epoch}")
    else:
        # A run that is killed before its first checkpoint resumes from its first weights.
        state.save(0)
    callback = _RunCallback(recipe, steps_per_epoch, state, settings, step, plateaus)
    callback.dropouts = [layer for layer in model.submodules if isinstance(layer, Dropout)]
    logs = _fit(objective, groups, epoch_batches, callback)
    callback.evaluate()
    state.save(callback.step)
    if state.averages is not None:
        state.averages.apply()
    return logs


def _fit(
    objective: Objective,
    groups: Sequence[Group],
    epoch_batches: EpochBatches,
    callback: _RunCallback,
) -> dict[str, float]:
    """Run one `fit` per epoch; the callback counts the steps."""
    recipe = callback.recipe
    steps_per_epoch = callback.steps_per_epoch
    # Keras shows a bar (1) on a terminal, and a line per epoch (2) in a log.
    verbose = 1 if sys.stdout.isatty() else 2
    logs: dict[str, float] = {}
    current: Stage | None = None
    while callback.step < recipe.epochs * steps_per_epoch:
        epoch, first_step = divmod(callback.step, steps_per_epoch)
        stage = stage_of(recipe.stages, epoch)
        if stage is not current:
            averages = callback.state.averages
            after_update = averages.add if averages is not None and averages.adds_updates else None
            objective.prepare(groups, stage.trains, recipe.batches_per_update, after_update)
            callback.throughput.is_traced = False
            current = stage
        history = objective.fit(
            epoch_batches(epoch, first_step),
            epochs=recipe.epochs,
            initial_epoch=epoch,
            steps_per_epoch=steps_per_epoch - first_step,
            callbacks=[callback.throughput, callback],
            verbose=verbose,
        )
        logs = {name: float(values[-1]) for name, values in history.history.items()}
    return logs


def stage_number(stages: Sequence[Stage], epoch: int) -> int:
    """Return the number of the stage that an epoch is in; the last one after the end."""
    ends = list(accumulate(stage.epochs for stage in stages))
    return min(bisect(ends, epoch), len(stages) - 1)


def stage_of(stages: Sequence[Stage], epoch: int) -> Stage:
    """Return the stage that an epoch is in; the last stage for epochs after the end."""
    return stages[stage_number(stages, epoch)]


def relative_costs(recipe: Recipe) -> list[float]:
    """Return about how long an epoch of each stage takes, to compare the stages.

    A step backwards through the trunk takes about twice as long as forwards.

    Args:
        recipe: image sizes and trained parameters of the stages are read.

    Returns:
        A number for each stage, in units of pixels.
    """
    trunk = recipe.model.trunk
    costs = []
    for stage, size_px in zip(recipe.stages, recipe.sizes_px, strict=True):
        in_trunk = [group for group in stage.trains if group.split("/")[0] == "trunk"]
        goes_back = not trunk.is_frozen and (not stage.trains or bool(in_trunk))
        costs.append(size_px**2 * (3.0 if goes_back else 1.0))
    return costs


def format_duration(seconds: float) -> str:
    """Return "40 s", "12 min" or "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
