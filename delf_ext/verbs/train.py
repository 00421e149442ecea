"""train: from a recipe, or the original's flags, and a data set to a run directory."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from data_io.datasets import DataSet, load_dataset
from data_io.progress import say
from delf_ext import nsml
from delf_ext.app import training
from delf_ext.app.evaluation import evaluate
from delf_ext.app.results import keep_in_run
from delf_ext.app.training import Trained
from delf_ext.app.training_settings import Settings
from delf_ext.config import UsageError
from delf_ext.nsml.entry import RUN_DIR, Submission, TrainingSession, submission_budget_s
from delf_ext.recipes import schema
from delf_ext.recipes.changes import changed_settings, with_epochs
from delf_ext.recipes.codec import AnyRecipe, with_settings
from delf_ext.recipes.mandoo_dual import from_flags
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS as ORIGINAL
from delf_ext.recipes.registry import find_recipe
from delf_ext.runs.opening import open_model
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.run_directory import read_run
from delf_ext.runs.sources import RunSource, Runtime
from delf_ext.verbs.data import resolve_data
from delf_ext.verbs.hints import hint
from delf_ext.verbs.models import batch_size_of, calibration_images
from delf_ext.verbs.printing import show_figures
from delf_ext.verbs.requests import request_of
from delf_ext.verbs.verb_table import INFER

KEPT_BY_A_RUN = (
    *("recipe", "set", "from_run", "pretrained_model", "seed", "deterministic", "mixed_precision"),
    *("checkpoint_every_steps", "debug"),
)
DEBUG_EPOCHS, DEBUG_EVALUATE_EVERY, DEBUG_IMAGES = 2, 5, 240


def run(flags: Any) -> None:
    if flags.mode == "test":
        submit(flags)
        return
    if flags.resume:
        _resume(flags)
        return
    recipe, settings = recipe_from_flags(flags), settings_from_flags(flags)
    request_of(flags)  # only checked: a submission with the same command line will use it
    path = str(Path(resolve_data(flags)).absolute())
    run_dir = Path(
        flags.run_dir or (RUN_DIR if nsml.IS_ON_NSML else time.strftime("runs/%Y%m%d-%H%M%S"))
    )
    data = load_dataset(path, flags.query_split)
    begin = partial(
        training.train,
        recipe,
        data,
        run_dir,
        data_path=path,
        weights=str(Path(flags.pretrained_model).absolute()) if flags.pretrained_model else "",
        settings=settings,
        infer={
            name: flags[name].value
            for name in INFER
            if flags[name].present and name not in ("data", "run_dir")
        },
        log=say,
    )
    if nsml.IS_ON_NSML:
        trained = _on_platform(begin, recipe, settings, data, run_dir, flags)
    else:
        if not flags.data and isinstance(recipe, schema.Recipe):
            say(
                f"no --data: {recipe.epochs} epochs on drawn products; after a few steps a line says how long an epoch takes here"
            )
        trained = begin(from_run=flags.from_run)
    _end(trained, data, path, flags)


def _on_platform(
    begin: Callable[..., Trained],
    recipe: AnyRecipe,
    settings: Settings,
    data: DataSet,
    run_dir: Path,
    flags: Any,
) -> Trained:
    """Train in a session of NSML; a fork or a resumed session goes on from the checkpoint that the platform loads."""
    if not isinstance(recipe, schema.Recipe):
        raise UsageError(
            "an ensemble cannot be saved on NSML yet: train its members, each in a session of its own."
        )
    listener = TrainingSession(run_dir, recipe.epochs)
    if flags.pause:
        nsml.paused(scope={"listener": listener})
    if not listener.loaded:
        return begin(from_run=flags.from_run, listener=listener)
    parent = _parent_of(run_dir, recipe, settings)
    if parent is None:
        return training.resume(run_dir, epochs=recipe.epochs, data=data, listener=listener, log=say)
    return begin(from_run=parent, weights="", listener=listener)


def _resume(flags: Any) -> None:
    if not flags.run_dir:
        raise UsageError("--resume continues a run: pass its directory with --run_dir.")
    epochs = flags.epochs if flags["epochs"].present else None
    run = read_run(flags.run_dir)
    training.require_resumable(run)  # before its data are looked for
    data = load_dataset(flags.data or run.facts.data, flags.query_split)
    unused = [
        f"--{name}"
        for name in (*ORIGINAL, *KEPT_BY_A_RUN)
        if flags[name].present and name != "epochs"
    ]
    if unused:
        say(f"--resume: recipe and settings are the run's own; not used: {', '.join(unused)}")
    cache = flags.pixel_cache or ""
    trained = training.resume(flags.run_dir, epochs=epochs, pixel_cache=cache, data=data, log=say)
    _end(trained, data, flags.data or run.facts.data, flags)


def _parent_of(run_dir: Path, recipe: schema.Recipe, settings: Settings) -> Path | None:
    """Return where a fork with new values takes its weights from; None when the run goes on with its whole state.

    A fork with other settings (`nsml fork ... --args "--lr=1e-5"`) is a new run from the old weights; more epochs, or
    nothing new, continue the old run.
    """
    run = read_run(run_dir)
    old = recipe_of(run)
    assert isinstance(old, schema.Recipe)
    # The layout and the weights were decided when the run was made; more epochs continue it.
    last = len(old.stages) - 1
    ignored = ("model.trunk.layout:", "model.trunk.weights:", f"stages.{last}.epochs:")
    changes = [line for line in changed_settings(old, recipe) if not line.startswith(ignored)]
    if not changes and settings.seed == run.facts.seed:
        return None
    parent = run_dir.with_name(f"{run_dir.name}-parent")
    if parent.exists():
        return None  # a resumed fork: it goes on as the new run that it is
    run_dir.rename(parent)
    return parent


def recipe_from_flags(flags: Any) -> AnyRecipe:
    """Return --recipe, or the original's network by its flags, with --set applied.

    Raises: UsageError naming the flag that does not fit.
    """
    if flags.recipe:
        recipe = find_recipe(flags.recipe)
        foreign = [name for name in ORIGINAL if flags[name].present]
        if foreign:
            what = hint(foreign[0], flags[foreign[0]].value, recipe)
            raise UsageError(f"--{foreign[0]} is a flag of the original's network; {what}")
        recipe = with_settings(recipe, flags["set"].value)
        return _quick(recipe) if flags.debug else recipe
    values = {name: flags[name].value for name in ORIGINAL}
    if flags.debug:
        quick = {"epochs": DEBUG_EPOCHS, "eval_every_steps": DEBUG_EVALUATE_EVERY}
        values |= {name: value for name, value in quick.items() if not flags[name].present}
    return with_settings(from_flags(values), flags["set"].value)


def _quick(recipe: AnyRecipe) -> AnyRecipe:
    if not isinstance(recipe, schema.Recipe):
        raise UsageError(
            "--debug makes one recipe small; debug the members of an ensemble one by one."
        )
    every = [f"validation.every_steps={DEBUG_EVALUATE_EVERY}"] * (recipe.validation is not None)
    stages = [f"stages.{row}.epochs=1" for row in range(len(recipe.stages))]
    recipe = with_settings(recipe, [*every, *stages])
    return with_epochs(recipe, max(DEBUG_EPOCHS, len(recipe.stages)))


def settings_from_flags(flags: Any) -> Settings:
    """Return how a run is made, beside its recipe."""
    return Settings(
        seed=flags.seed,
        deterministic=flags.deterministic,
        mixed_precision=flags.mixed_precision,
        checkpoint_every_steps=flags.checkpoint_every_steps,
        max_images=DEBUG_IMAGES if flags.debug else 0,
        pixel_cache=str(flags.pixel_cache or ""),
    )


def _end(trained: Trained, data: DataSet, data_name: str, flags: Any) -> None:
    """Measure what was trained on the data's own queries; without any, say how it can be measured."""
    for member in trained.members:
        _end(member, data, data_name, flags)
    if not (len(data.query) and data.query.labels is not None and data.gallery.labels is not None):
        here = f"mandoo evaluate --run_dir={trained.run_dir} --data=..."
        say(
            f"trained: {trained.run_dir}. Score it with: {f'nsml submit {nsml.SESSION_NAME}' if nsml.IS_ON_NSML else here}"
        )
        return
    run = read_run(trained.run_dir)
    model = open_model(trained.source, Runtime(mixed_precision=flags.mixed_precision), log=say)
    folder = trained.run_dir / "local"
    found = evaluate(model, data, folder=folder, seed=run.facts.seed, data_name=data_name, log=say)
    show_figures(found.figures)
    written = keep_in_run(run, found.final, found.figures, data, "", report=flags.report)
    say(f"figures: {written[0]}" + (f"; report: {written[-1]}" if flags.report else ""))


def submit(flags: Any) -> None:
    """Answer a submission: --mode=test, the platform calls `load`, then `infer`."""
    if not nsml.IS_ON_NSML:
        raise UsageError(
            "--mode=test is how `nsml submit` calls a session; elsewhere `infer --run_dir=RUN` writes the answer."
        )
    flags.time_budget = submission_budget_s(flags.time_budget)
    flags.run_dir = flags.pretrained_model = (
        None  # what training started from; the checkpoint is the model now
    )

    def open_run(path: str) -> Any:
        runtime = Runtime(flags.runtime, flags.mixed_precision)
        return open_model(
            RunSource(path),
            runtime,
            store=False,
            calibration=lambda: calibration_images(flags),
            log=say,
        )

    request = request_of(flags)
    submission = Submission(open_run, request, batch_size_of(flags))
    nsml.paused(scope={"submission": submission})
