"""Train a recipe on a data set, or resume a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_io.datasets import DataSet, load_dataset
from data_io.files.output_files import expanded
from data_io.progress import Log, quiet
from delf_ext.app.ensemble_reduction import fit_ensemble_reduction
from delf_ext.app.ensemble_training import require_data, require_members, train_members
from delf_ext.app.fold_report import report_folds
from delf_ext.app.member_weights import choose_member_weights
from delf_ext.app.resumed_data import Resumed
from delf_ext.app.resuming import ResumeChanges, reopen
from delf_ext.app.run_reduction import Reducing, fit_run_reduction
from delf_ext.app.starting_weights import parent_recipe
from delf_ext.app.trained import Trained as Trained
from delf_ext.app.training_job import Job
from delf_ext.app.training_settings import DEFAULT_SETTINGS, Settings, settings_of
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder
from delf_ext.recipes import codec, schema
from delf_ext.recipes.members import Planned, with_folds
from delf_ext.recipes.part import AtLeast1, Count, coerced
from delf_ext.recipes.registry import find_recipe
from delf_ext.runs import run_directory
from delf_ext.runs.opening import open_model, plain_digest
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.records import Facts, Run
from delf_ext.runs.run_directory import is_run, read_run, write_run
from delf_ext.runs.sources import RunSource, Runtime
from delf_ext.runs.training_lock import only_training
from delf_ext.runs.weights import locate_weights

if TYPE_CHECKING:
    from delf_ext.training.loop import Listener


def train(
    recipe: codec.AnyRecipe | str,
    data: DataSet | str | Path,
    run_dir: str | Path,
    *,
    folds: int = 0,
    data_path: str = "",
    weights: str = "",
    from_run: str | Path | None = None,
    settings: Settings = DEFAULT_SETTINGS,
    infer: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
    log: Log = quiet,
) -> Trained:
    """Train a recipe, or each member of an ensemble. The validation chooses the best weights.

    Args:
        recipe: a recipe, the name of a registered recipe, or the path of a JSON file.
        data: a data set or its path.
        run_dir: new run directory. If training is stopped, `resume` continues it.
        folds: number of trainings, each without another fold of the images; the run joins the
            models. 0 = one training.
        data_path: path of `data` if it is a data set; `resume` loads the data from there.
        weights: TensorFlow checkpoint for the trunk; "" = the one of the recipe.
        from_run: run directory whose weights the training starts from. The state of its
            optimizers and its step are not used.
        settings: seed, precision and other settings beside the recipe.
        infer: flags that a later NSML submission uses, stored in the run.
        flags: flags of the training command, stored in the run.
        listener: called after each epoch and each evaluation.
        log: called with each log line.

    Returns:
        The finished run.

    Raises:
        UsageError: the recipe cannot be trained, or the arguments do not fit together.
        ValueError: the data cannot be trained on, or `run_dir` holds a run already.
    """
    if isinstance(recipe, str):
        recipe = find_recipe(recipe)
    recipe = with_folds(recipe, coerced(folds, Count, "folds"))
    if not isinstance(data, DataSet):
        data_path = str(Path(data).absolute())
        data = load_dataset(data)
    run_dir = expanded(run_dir)
    _require_no_run(run_dir)
    if weights and from_run is None:
        weights = locate_weights(weights, log)
    if isinstance(recipe, schema.EnsembleRecipe):
        if from_run is not None:
            raise UsageError(
                "an ensemble cannot start from a run (--from_run). Train its members one by one."
            )
        if listener is not None:
            raise UsageError("an ensemble takes no listener. Train its members one by one.")
        require_members(recipe, weights)
        require_data(recipe, data, settings, run_dir)
        facts = Facts(
            data=data_path or data.name,
            data_layout=data.layout,
            weights=weights,
            flags=run_directory.jsonable(flags or {}),
        )
        with only_training(run_dir):
            _require_no_run(run_dir)
            run = _start_ensemble(recipe, facts, settings, run_dir)
            return _train_members(run, data, settings, log)
    if from_run is not None:
        if weights:
            raise UsageError(
                "training starts from a run (--from_run) or a checkpoint (--pretrained_model). "
                "Pass only one of them."
            )
        # Refuses a directory without a usable run before the images are read.
        parent_recipe(from_run)
    job = Job(recipe, data, run_dir, settings, log)
    with only_training(run_dir):
        # Another process may have trained it while the images were read.
        _require_no_run(run_dir)
        model = job.start(weights, from_run, data_path, infer or {}, flags or {})
        losses = job.fit(model, listener)
        fit_reduction_of(job)
    return Trained(run_dir, job.recipe, losses, warning=job.warning)


def fit_reduction_of(job: Job) -> None:
    """Fit the reduction of a recipe, if it has one, with the best weights of its run."""
    if job.recipe.reduction is None:
        return
    run = read_run(job.run_dir)
    source = RunSource(str(run.path), reduced=False)
    model = open_model(source, Runtime(mixed_precision=job.settings.mixed_precision), log=job.log)
    assert isinstance(model, Embedder)
    digest = plain_digest(source)
    seed = job.settings.seed
    fit_run_reduction(Reducing(run, job.recipe.reduction, model, digest, job.split, seed, job.log))
    model.release()


def _require_no_run(run_dir: Path) -> None:
    if is_run(run_dir):
        raise ValueError(
            f"{run_dir}: holds a run already. "
            "Continue it with --resume, or choose another --run_dir."
        )


def resume(
    run_dir: str | Path,
    *,
    epochs: int | None = None,
    eval_every_steps: int | None = None,
    checkpoint_every_steps: int | None = None,
    pixel_cache: str = "",
    data: DataSet | None = None,
    data_path: str = "",
    accept_changed_data: bool = False,
    infer: Mapping[str, Any] | None = None,
    listener: Listener | None = None,
    log: Log = quiet,
) -> Trained:
    """Continue a run that was stopped, or train it for more epochs.

    Recipe, data and other settings are those of the run.

    Args:
        run_dir: a run directory. Of an ensemble, each member is resumed, or trained if it has
            not started.
        epochs: new number of epochs in all; None = as before.
        eval_every_steps: steps between evaluations on the dev split; None = as before.
        checkpoint_every_steps: steps between checkpoints; None = as before.
        pixel_cache: folder that stores decoded images; "" = as before.
        data: the data set, if it is loaded already.
        data_path: place of the data, if they were moved; "" = as before.
        accept_changed_data: continue if classes or photographs have changed. Weights follow their
            class, a new class gets new weights, and those of a lost class are dropped.
        infer: flags that a later NSML submission uses, stored in the run; None = as before.
        listener: called after each epoch and each evaluation.
        log: called with each log line.

    Returns:
        The finished run.

    Raises:
        UsageError: the run is already trained for more epochs.
        ValueError: there is no run, an earlier version made it, the data has changed, or another
            process trains it.
    """
    for name, value in (("epochs", epochs), ("eval_every_steps", eval_every_steps)):
        if value is not None:
            coerced(value, AtLeast1, name)
    run = read_run(run_dir)
    require_resumable(run)
    if data is None:
        place = data_path or place_of_data(run)
        data = load_dataset(place, layout=run.facts.data_layout)
    changes = ResumeChanges(epochs, eval_every_steps, data_path, infer or {})
    with only_training(run.path):
        run = read_run(run_dir)
        settings = settings_of(run)
        if pixel_cache:
            settings = replace(settings, pixel_cache=pixel_cache)
        if checkpoint_every_steps:
            settings = replace(settings, checkpoint_every_steps=checkpoint_every_steps)
        recipe = recipe_of(run)
        if isinstance(recipe, schema.EnsembleRecipe):
            return _train_members(run, data, settings, log, changes, accept_changed_data)
        resumed = Resumed(run, accept_changed_data)
        job = Job(recipe, data, run.path, settings, log, resumed)
        model = reopen(job, changes)
        losses = job.fit(model, listener)
        fit_reduction_of(job)
    return Trained(run.path, job.recipe, losses, warning=job.warning)


def place_of_data(run: Run) -> str:
    """Return where the data of a run are.

    Args:
        run: the run.

    Returns:
        The path.

    Raises:
        ValueError: they are not there any more.
    """
    if not Path(run.facts.data).exists():
        raise ValueError(
            f"{run.facts.data}: not found. The data of {run.path} were there; if they were moved, "
            "pass their new place with --data."
        )
    return run.facts.data


def require_resumable(run: Run) -> None:
    """Raise ValueError if `resume` cannot continue the run."""
    if run.kind not in ("recipe", "ensemble"):
        raise ValueError(
            f"{run.path}: holds a run of kind {run.kind!r}. "
            "Resume it with the command that made it."
        )
    if run.is_old:
        raise ValueError(
            f"{run.path}: an earlier version made this run. It can be opened and evaluated, "
            f"and a new run can start from its weights: --from_run={run.path}"
        )


def _start_ensemble(
    recipe: schema.EnsembleRecipe, facts: Facts, settings: Settings, run_dir: Path
) -> Run:
    """Write the run directory of an ensemble."""
    facts = replace(
        facts,
        settings=asdict(settings),
        versions=run_directory.versions(),
        commit=run_directory.commit(),
    )
    members = tuple(
        replace(member, run=str(Path(member.run).absolute())) if member.run else member
        for member in recipe.members
    )
    stored_recipe = codec.to_json(replace(recipe, members=members))
    return write_run(run_dir, "ensemble", stored_recipe, facts)


def _train_members(
    run: Run,
    data: DataSet,
    settings: Settings,
    log: Log,
    changes: ResumeChanges = ResumeChanges(),  # noqa: B008 frozen
    accept_changed_data: bool = False,
) -> Trained:
    """Train or resume each member; fit what joins them."""
    recipe = recipe_of(run)
    assert isinstance(recipe, schema.EnsembleRecipe)

    def train_one(model: Planned, path: Path, own: Settings) -> Trained:
        assert model.recipe is not None
        return train(
            model.recipe,
            data,
            path,
            data_path=changes.data_path or run.facts.data,
            weights=run.facts.weights,
            settings=own,
            log=log,
        )

    def resume_one(path: Path) -> Trained:
        return resume(
            path,
            epochs=changes.epochs,
            eval_every_steps=changes.eval_every_steps,
            checkpoint_every_steps=settings.checkpoint_every_steps,
            pixel_cache=settings.pixel_cache,
            data=data,
            data_path=changes.data_path,
            accept_changed_data=accept_changed_data,
            log=log,
        )

    trained = train_members(run, data, settings, log, train_one, resume_one, changes.epochs)
    report_folds(run, recipe, data, settings, log)
    choose_member_weights(run, recipe, data, settings, log)
    fit_ensemble_reduction(run, recipe, data, settings, log)
    # All members are trained on the same images.
    warning = next((member.warning for member in trained if member.warning), "")
    return Trained(run.path, recipe, members=trained, warning=warning)
