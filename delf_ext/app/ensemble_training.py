"""Train the models of an ensemble one after the other; a killed command continues where it was."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Sequence
from pathlib import Path

from data_io.checkpoint_folder import CheckpointFolder
from data_io.datasets import DataSet
from data_io.files.artifacts import read_json, write_json
from data_io.progress import Log, quiet
from delf_ext.app.data import content_of
from delf_ext.app.run_reduction import require_fitting
from delf_ext.app.trainable import require_built_reduction, require_trainable
from delf_ext.app.trained import Trained
from delf_ext.app.training_job import Job
from delf_ext.app.training_settings import Settings
from delf_ext.config import UsageError, require
from delf_ext.features.embedder import Adapted, require_built_join
from delf_ext.recipes import schema
from delf_ext.recipes.members import Planned, planned
from delf_ext.runs.opening import open_model
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import is_run, read_run
from delf_ext.runs.sources import RunSource
from delf_ext.runs.weights import locate_weights

FINISHED = "finished.json"
"""Written into the run of a member when it is trained: what it was trained for, and on."""
TrainOne = Callable[[Planned, Path, Settings], Trained]
"""Trains a member (its plan, run directory, settings) that has no run yet."""
ResumeOne = Callable[[Path], Trained]
"""Continues the run of a member."""


def require_members(ensemble: schema.EnsembleRecipe, weights: str = "") -> None:
    """Raise an error before training starts if a member, or what joins them, cannot be used.

    Args:
        ensemble: the recipe.
        weights: of the trunks of all members; "" = those of their recipes.

    Raises:
        UsageError: a part is not built, or does not fit the members.
        ValueError: the run of a member cannot be read, or there are no weights for its trunk.
    """
    for model in planned(ensemble):
        # The folds of a member differ only in the fold.
        if model.fold:
            continue
        if model.recipe is None:
            read_run(model.run)
        else:
            require_trainable(model.recipe)
            name = ensemble.members[model.member].name
            _require_weights_of(name, weights or model.recipe.model.trunk.weights)
    require_built_join(ensemble.join)
    require_built_reduction(ensemble.reduction)
    if isinstance(ensemble.reduction, schema.Chosen):
        require(
            _have_one_dev_split(ensemble),
            f"{ensemble.name}: the reduction Chosen needs members that hold out the same images. "
            "Name the reduction of the ensemble (--set reduction=Lda), or give the members "
            "Chosen instead.",
        )
    if ensemble.choose_weights:
        _require_weights(ensemble)
    if ensemble.reduction is not None:
        _require_one_set_of_classes(ensemble)


def _require_weights_of(name: str, weights: str) -> None:
    """Raise ValueError if a member would miss its weights after the others are trained."""
    if not weights:
        return
    try:
        locate_weights(weights, quiet)
    except ValueError as error:
        raise ValueError(f"member {name}: {error}") from None


def _validations(ensemble: schema.EnsembleRecipe) -> set[schema.Validation | None]:
    """Return how the members that are trained hold out images, without how often they look."""
    found = set()
    for model in planned(ensemble):
        if model.recipe is not None:
            validation = model.recipe.validation
            found.add(validation and dataclasses.replace(validation, every_steps=0))
    return found


def _have_one_dev_split(ensemble: schema.EnsembleRecipe) -> bool:
    validations = _validations(ensemble)
    # Finished runs are compared when all members are trained.
    return not validations or (len(validations) == 1 and None not in validations)


def _require_weights(ensemble: schema.EnsembleRecipe) -> None:
    folds = {member.folds for member in ensemble.members}
    require(
        len(ensemble.members) >= 2,
        f"{ensemble.name}: choose_weights weighs members against each other, and this ensemble "
        "has one. The folds of a member have one weight.",
    )
    require(
        (len(folds) == 1 and 0 not in folds) or _have_one_dev_split(ensemble),
        f"{ensemble.name}: choose_weights needs members that hold out the same images: give all "
        "of them the same validation, or the same number of folds.",
    )


def _require_one_set_of_classes(ensemble: schema.EnsembleRecipe) -> None:
    """Raise UsageError if members hold out different classes: a reduction needs the same ones."""
    trained_on = {
        validation if isinstance(validation, schema.HeldOutClasses) else None
        for validation in _validations(ensemble)
    }
    require(
        len(trained_on) <= 1,
        f"{ensemble.name}: the members hold out different classes, so they see different ones, "
        "and a reduction of their joined embeddings cannot be fitted. Give them the same "
        "validation, or leave the reduction out.",
    )
    runs = [read_run(member.run) for member in ensemble.members if member.recipe is None]
    require_same_classes(ensemble.name, [run.facts.class_names for run in runs])


def require_same_classes(name: str, class_names: Sequence[Sequence[str]]) -> None:
    """Raise UsageError if the members of an ensemble were trained on different classes.

    Args:
        name: of the ensemble.
        class_names: classes that each member was trained on; empty ones are ignored.

    Raises:
        UsageError: two members differ.
    """
    sets = [set(names) for names in class_names if names]
    for other in sets[1:]:
        different = sorted(other ^ sets[0])
        if different:
            raise UsageError(
                f"{name}: its members were trained on different classes (such as {different[0]}), "
                "so a reduction of their joined embeddings cannot be fitted. Pass members that "
                "were trained on the same classes, or leave the reduction out."
            )


def require_data(
    ensemble: schema.EnsembleRecipe, data: DataSet, settings: Settings, run_dir: Path
) -> None:
    """Raise an error before the first training if the data do not allow all that is to come.

    Files are not decoded: each training does that.

    Args:
        ensemble: the recipe.
        data: the data set.
        settings: of the ensemble.
        run_dir: its run directory.

    Raises:
        UsageError: a recipe does not fit the data, or the reduction has too many dimensions.
        ValueError: the images or classes do not allow a training.
    """
    jobs = []
    for model in planned(ensemble, settings.seed):
        # The folds of a member differ only in the fold.
        if model.recipe is None or model.fold:
            continue
        try:
            jobs.append(Job(model.recipe, data, run_dir, settings, quiet, decodes=False))
        except ValueError as error:
            raise type(error)(f"member {ensemble.members[model.member].name}: {error}") from None
    if ensemble.reduction is None or not jobs:
        return
    if _have_one_dev_split(ensemble):
        job = jobs[0]
        num_images, num_classes = len(job.images), len(job.class_names)
        num_dev = len(job.split.query)
    else:
        # All labelled images; a choice on a dev split is refused already.
        labels = data.train.labelled().known_labels("training")
        num_images, num_classes, num_dev = len(labels), len(set(labels.tolist())), 1
    require_fitting(ensemble.reduction, num_images, num_classes, num_dev)


def train_members(
    run: Run,
    data: DataSet,
    settings: Settings,
    log: Log,
    train_one: TrainOne,
    resume_one: ResumeOne,
    epochs: int | None = None,
) -> tuple[Trained, ...]:
    """Train or resume each model that is no finished run.

    Args:
        run: the run of the ensemble.
        data: the data set.
        settings: of the ensemble; the seed of a fold differs, see `planned`.
        log: called with each log line.
        train_one: trains a member without a run.
        resume_one: continues the run of a member.
        epochs: new number of epochs in all; None = as before.

    Returns:
        The trained members.
    """
    recipe = recipe_of(run)
    assert isinstance(recipe, schema.EnsembleRecipe)
    models = planned(recipe, settings.seed)
    digest = content_of(data.train.labelled())
    trained: list[Trained] = []
    for number, model in enumerate(models, start=1):
        if model.recipe is None:
            continue
        path = run.path / "members" / model.name
        title = f"member {number} of {len(models)}: {model.title}"
        if _is_finished(path, digest, epochs):
            log(f"{title}: finished before")
            member = read_run(path)
            result = Trained(path, recipe_of(member))
        else:
            log(title)
            if is_run(path):
                result = resume_one(path)
            else:
                own = dataclasses.replace(settings, seed=model.seed)
                result = train_one(model, path, own)
            _mark_finished(path, digest)
            _free_memory()
        trained.append(dataclasses.replace(result, is_fold=model.fold is not None))
    return tuple(trained)


def _newest_step(path: Path) -> int:
    return max(CheckpointFolder(path / "checkpoint", "last").numbers(), default=0)


def _mark_finished(path: Path, data_digest: str) -> None:
    recipe = recipe_of(read_run(path))
    assert isinstance(recipe, schema.Recipe)
    facts = {"epochs": recipe.epochs, "step": _newest_step(path), "data": data_digest}
    write_json(path / FINISHED, facts)


def _is_finished(path: Path, data_digest: str, epochs: int | None) -> bool:
    file = path / FINISHED
    if not (is_run(path) and file.exists()):
        return False
    try:
        facts = read_json(file)
        is_same = facts["step"] == _newest_step(path) and facts["data"] == data_digest
        return bool(is_same and epochs in (None, facts["epochs"])) and _is_reduced(path)
    except (ValueError, KeyError, TypeError):
        # It is resumed, which finds that nothing is left to do.
        return False


def _is_reduced(path: Path) -> bool:
    """Return whether the reduction of a member, if it has one, is fitted on its weights.

    Raises:
        ValueError: a file of the run is damaged.
    """
    recipe = recipe_of(read_run(path))
    assert isinstance(recipe, schema.Recipe)
    if recipe.reduction is None:
        return True
    # The weights are not loaded for this.
    return isinstance(open_model(RunSource(str(path)), store=False), Adapted)


def _free_memory() -> None:
    """Free the graphs of a member before the next one is built."""
    import tensorflow as tf

    tf.keras.backend.clear_session()
    gc.collect()
