"""Train a recipe, or the 2018 original by its flags, into a run directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet
from data_io.datasets.layouts import AUTO
from data_io.datasets.loading import is_csv
from data_io.messages import shown_path
from data_io.progress import say
from delf_ext import nsml
from delf_ext.app import training
from delf_ext.app.evaluation import evaluate
from delf_ext.app.trained_on import TrainedPhotographs
from delf_ext.app.training import Trained
from delf_ext.app.training_settings import Settings, settings_of
from delf_ext.config import UsageError
from delf_ext.nsml.entry import RUN_DIR, Submission, TrainingSession, submission_budget_s
from delf_ext.recipes import schema
from delf_ext.recipes.changes import changed_settings
from delf_ext.recipes.codec import AnyRecipe
from delf_ext.recipes.trunk_names import absolute_weights
from delf_ext.runs.opening import open_model
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.run_directory import read_run
from delf_ext.runs.sources import RunSource, Runtime
from delf_ext.runs.weights import known_trunk
from delf_ext.verbs.data import Source, load_from, resolve_data
from delf_ext.verbs.models import batch_size_of, calibration_images
from delf_ext.verbs.printing import keep_in_run, show_figures
from delf_ext.verbs.requests import request_of
from delf_ext.verbs.resumed_flags import (
    given,
    require_same_training,
    take_flags_of_run,
    training_flags,
)
from delf_ext.verbs.training_flags import recipe_from_flags, settings_from_flags
from delf_ext.verbs.verb_table import SUBMISSION


def run(flags: Any) -> None:
    """Train, or with --resume continue a run, and measure it. With --mode=test answer a submission.

    Raises:
        UsageError: naming the flag that does not fit.
        ValueError: if the data or the run directory cannot be used.
    """
    if flags.mode == "test":
        submit(flags)
    elif flags.resume:
        _resume(flags)
    else:
        _train(flags)


def _train(flags: Any) -> None:
    name_trunk(flags)
    if flags.accept_changed_data:
        raise UsageError("--accept_changed_data continues a run: pass --resume as well.")
    recipe = recipe_from_flags(flags)
    settings = settings_from_flags(flags)
    # A submission will use these flags. Refuse bad values before the training, not after it.
    request_of(flags, is_submission=True)
    source = resolve_data(flags)
    data_path = str(Path(source.path).absolute())
    default_dir = RUN_DIR if nsml.IS_ON_NSML else time.strftime("runs/%Y%m%d-%H%M%S")
    run_dir = Path(flags.run_dir or default_dir)
    data = load_from(source, flags)
    weights = absolute_weights(flags.pretrained_model) if flags.pretrained_model else ""
    begin = partial(
        training.train,
        recipe,
        data,
        run_dir,
        data_path=data_path,
        weights=weights,
        settings=settings,
        infer=_submission_flags(flags),
        flags=training_flags(flags),
        log=say,
    )
    if nsml.IS_ON_NSML:
        trained = _train_on_nsml(begin, recipe, settings, data, run_dir, flags)
    else:
        if not flags.data and isinstance(recipe, schema.Recipe):
            say(
                f"no --data: training {recipe.epochs} epochs on drawn products. After a few steps "
                "a line says how long an epoch takes on this machine."
            )
        trained = begin(from_run=flags.from_run)
    _measure(trained, data, data_path, flags)
    if trained.warning:
        say(trained.warning)


def name_trunk(flags: Any) -> None:
    """Pass --resnet_type for the user if --pretrained_model says its network.

    A run stores the flags that were passed, so one that is resumed has the same trunk.
    """
    if flags.pretrained_model and not (flags.recipe or flags["resnet_type"].present):
        known = known_trunk(flags.pretrained_model)
        if known:
            flags["resnet_type"].parse(known.network)


def _submission_flags(flags: Any) -> dict[str, Any]:
    """Return the flags of a submission that were passed; the run stores them."""
    names = [name for name in SUBMISSION if name not in ("data", "run_dir") and flags[name].present]
    return {name: flags[name].value for name in names}


def _train_on_nsml(
    begin: Callable[..., Trained],
    recipe: AnyRecipe,
    settings: Settings,
    data: DataSet,
    run_dir: Path,
    flags: Any,
) -> Trained:
    """Train in a session of NSML. If the platform loads a checkpoint, continue from it."""
    if not isinstance(recipe, schema.Recipe):
        raise UsageError(
            "an ensemble cannot be saved on NSML yet: train each member in its own session."
        )
    listener = TrainingSession(run_dir, recipe.epochs)
    if flags.pause:
        nsml.paused(scope={"listener": listener})
    parent = _parent_of_fork(run_dir, recipe, settings) if listener.loaded else None
    if not listener.loaded:
        trained = begin(from_run=flags.from_run, listener=listener)
    elif parent is None:
        trained = training.resume(
            run_dir, epochs=recipe.epochs, data=data, listener=listener, log=say
        )
    else:
        trained = begin(from_run=parent, weights="", listener=listener)
    if recipe.reduction is not None:
        listener.reduced()
    return trained


def _parent_of_fork(run_dir: Path, recipe: schema.Recipe, settings: Settings) -> Path | None:
    """Move the run aside if the session changes its recipe, seed or precision.

    A fork with other settings (`nsml fork ... --args "--lr=1e-5"`) is a new run that starts from
    the old weights. Without a change, or with more epochs only, the old run continues.

    Returns:
        The new path of the old run; None if the old run continues.
    """
    run = read_run(run_dir)
    old = recipe_of(run)
    assert isinstance(old, schema.Recipe)
    # The run has decided layout and weights; the flags may still say "auto".
    last = len(old.stages) - 1
    ignored = ("model.trunk.layout:", "model.trunk.weights:", f"stages.{last}.epochs:")
    changes = [line for line in changed_settings(old, recipe) if not line.startswith(ignored)]
    if not changes and _is_same(settings, settings_of(run)):
        return None
    parent = run_dir.with_name(f"{run_dir.name}-parent")
    if parent.exists():
        # A resumed fork: its run was moved aside before, and the new run continues.
        return None
    run_dir.rename(parent)
    return parent


def _is_same(settings: Settings, stored: Settings) -> bool:
    """Return whether two settings train alike; how often and where files are written is free."""
    free = {"checkpoint_every_steps": 1, "pixel_cache": ""}
    return replace(settings, **free) == replace(stored, **free)  # type: ignore[arg-type]


def _resume(flags: Any) -> None:
    if not flags.run_dir:
        raise UsageError("--resume continues a run: pass its directory with --run_dir.")
    run = read_run(flags.run_dir)
    training.require_resumable(run)
    require_same_training(run, flags)
    take_flags_of_run(run, flags)
    place = str(Path(flags.data).absolute()) if flags.data else training.place_of_data(run)
    # A table that took the place of a folder needs no layout.
    layout = AUTO if is_csv(Path(place)) else run.facts.data_layout
    data = load_from(Source(place), flags, layout)
    trained = training.resume(
        flags.run_dir,
        epochs=given(flags, "epochs"),
        eval_every_steps=given(flags, "eval_every_steps"),
        checkpoint_every_steps=given(flags, "checkpoint_every_steps"),
        pixel_cache=flags.pixel_cache or "",
        data=data,
        data_path=place,
        accept_changed_data=flags.accept_changed_data,
        infer=_submission_flags(flags),
        log=say,
    )
    _measure(trained, data, place, flags)
    if trained.warning:
        say(trained.warning)


def _measure(trained: Trained, data: DataSet, data_name: str, flags: Any) -> None:
    """Measure the model on the queries of the data; if there are none, print how to measure it."""
    for member in trained.members:
        # The table of the folds has their figures.
        if not member.is_fold:
            _measure(member, data, data_name, flags)
    if not (len(data.query) and data.query.labels is not None and data.gallery.labels is not None):
        command = f"mandoo evaluate --run_dir={shown_path(trained.run_dir)} --data=..."
        if nsml.IS_ON_NSML:
            command = f"nsml submit {nsml.SESSION_NAME}"
        say(f"trained: {shown_path(trained.run_dir)}. Score it with: {command}")
        return
    run = read_run(trained.run_dir)
    model = open_model(trained.source, Runtime(mixed_precision=flags.mixed_precision), log=say)
    try:
        evaluation = evaluate(
            model,
            data,
            folder=trained.run_dir / "local",
            seed=run.facts.seed,
            data_name=shown_path(data_name),
            log=say,
        )
    except TrainedPhotographs as error:
        # The training itself succeeded.
        say(f"trained: {shown_path(trained.run_dir)}. Not measured: {error}")
        return
    show_figures(evaluation.figures)
    keep_in_run(run, evaluation, data, page=flags.report)


def submit(flags: Any) -> None:
    """Answer a submission of NSML: the platform calls `load`, then `infer`.

    Raises:
        UsageError: if the program does not run on NSML.
    """
    if not nsml.IS_ON_NSML:
        raise UsageError(
            "--mode=test is for `nsml submit`. To write an answer here, use "
            "`mandoo infer --run_dir=RUN`."
        )
    flags.time_budget = submission_budget_s(flags.time_budget)
    # These name what the training started from. The model is the checkpoint.
    flags.run_dir = None
    flags.pretrained_model = None

    def open_run(path: str) -> Any:
        return open_model(
            RunSource(path),
            Runtime(flags.runtime, flags.mixed_precision),
            store=False,
            calibration=lambda: calibration_images(flags),
            log=say,
        )

    submission = Submission(open_run, request_of(flags, is_submission=True), batch_size_of(flags))
    nsml.paused(scope={"submission": submission})
