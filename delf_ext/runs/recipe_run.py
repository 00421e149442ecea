"""Open runs that a recipe was trained in."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data_io.checkpoint_folder import CheckpointFolder, classes_of
from data_io.files.artifacts import digest_of, read_json
from data_io.progress import Log, quiet
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder, HeldBack
from delf_ext.features.network_embedders import LogitsOf, lazy_embedder
from delf_ext.recipes import codec, schema
from delf_ext.recipes.members import planned, weights_of_models
from delf_ext.runs.photographs import read_photographs
from delf_ext.runs.records import MEMBER_WEIGHTS, PROJECTION, RECIPE, Run
from delf_ext.runs.run_directory import checkpoint_digest, is_run, read_run
from delf_ext.runs.sources import EnsembleSource, RunSource
from delf_ext.runs.upgrade import load_old_weights, old_checkpoint

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel


def recipe_of(run: Run) -> codec.AnyRecipe:
    """Return the recipe of a run.

    Args:
        run: a run of kind "recipe" or "ensemble".

    Returns:
        The recipe.

    Raises:
        ValueError: recipe.json does not hold a recipe; the message names the place in the file.
    """
    try:
        return codec.recipe_from_json(run.recipe, str(run.path / RECIPE))
    except UsageError as error:
        raise ValueError(str(error)) from None


def best_weights(run: Run) -> Path:
    """Return the best checkpoint of a run, or the last one if none was chosen as best.

    Args:
        run: a run of one recipe.

    Returns:
        Path prefix of the checkpoint.

    Raises:
        ValueError: the run has saved no checkpoint.
    """
    path: Path | None
    if run.is_old:
        path = old_checkpoint(run.checkpoints)
    else:
        best = CheckpointFolder(run.checkpoints, "best").newest()
        path = best or CheckpointFolder(run.checkpoints, "last").newest()
    if path is None:
        raise ValueError(
            f"{run.checkpoints}: no checkpoint; the run has not saved one yet. "
            "Pass --resume to continue its training."
        )
    return path


def load_model(run: Run, path: Path | None = None) -> tuple[EmbeddingModel, str]:
    """Build the model of a trained recipe and load its weights.

    Args:
        run: a run of one recipe, not of an ensemble.
        path: path prefix of the checkpoint; None: the best one.

    Returns:
        The model, and the name of the checkpoint, such as "best-5".

    Raises:
        ValueError: a file is missing or damaged, or the weights do not fit the recipe.
    """
    from delf_ext.models.class_rows import with_classes
    from delf_ext.models.embedding_model import EmbeddingModel, read_weights

    recipe = recipe_of(run)
    if not isinstance(recipe, schema.Recipe):
        raise ValueError(f"{run.path}: holds an ensemble; name one of its members.")
    path = path or best_weights(run)

    def build(num_classes: int) -> EmbeddingModel:
        return EmbeddingModel(recipe.model, num_classes).build_variables()

    class_names = run.facts.class_names
    if run.is_old:
        model = build(len(class_names))
        load_old_weights(model, path)
        return model, path.name
    # A checkpoint can be older than the last change of the run's classes.
    stored = classes_of(path) or class_names
    model = build(len(stored))
    read_weights(model, path)
    if stored != class_names:
        model = with_classes(model, build, stored, class_names)
    return model, path.name


def open_recipe_run(run: Run) -> Embedder:
    """Open the model of a finished or running training.

    Args:
        run: a run of one recipe.

    Returns:
        The embedder, without the reduction of the recipe; its weights are loaded at the first
        batch.

    Raises:
        ValueError: a file is missing or damaged.
    """
    recipe = recipe_of(run)
    assert isinstance(recipe, schema.Recipe)
    # Chosen here for digest and weights: a running training may save others before the first batch.
    checkpoint = best_weights(run)
    size_px = recipe.final_size_px
    trunk = dataclasses.replace(recipe.model.trunk, weights="")
    config = dataclasses.replace(recipe.model, trunk=trunk)
    opened = lazy_embedder(
        name=f"{recipe.name} {run.path.name} ({checkpoint.name})",
        size_px=size_px,
        digest=digest_of([checkpoint_digest(checkpoint), codec.to_json(config), size_px]),
        load=lambda: load_model(run, checkpoint)[0],
        logits_of=logits_of(recipe, run.facts.class_names),
    )
    return dataclasses.replace(
        opened,
        test_time=recipe.test_time,
        ranking=recipe.ranking,
        held_back=training_of(run, recipe.validation),
        float32=recipe.limits.float32,
    )


def logits_of(recipe: schema.Recipe, class_names: tuple[str, ...]) -> LogitsOf | None:
    """Return which logits of a recipe's model say the class of an image.

    Args:
        recipe: the recipe.
        class_names: names of the trained classes, in the order of the logits.

    Returns:
        The head of the first loss that trains a classifier, with the factor of its logits in the
        loss; None if no loss does.
    """
    for term in recipe.losses:
        if term.loss.reads == "logits" and not isinstance(term.loss, schema.TreeConsistency):
            temperature = getattr(term.loss, "temperature", 1.0)
            scale = getattr(term.loss, "scale", 1.0) / temperature
            return LogitsOf(term.head, scale, class_names)
    return None


def training_of(run: Run, validation: schema.Validation | None = None) -> HeldBack:
    """Return what a run was trained on, and what it held back.

    Args:
        run: a run of one model.
        validation: rule of its recipe; None = it held nothing back.

    Returns:
        The record for its embedder.

    Raises:
        ValueError: photographs.json is damaged.
    """
    facts = run.facts
    return HeldBack(
        validation,
        facts.seed,
        facts.held_out,
        facts.class_names,
        read_photographs(run.path),
        int(facts.settings.get("max_images", 0)),
    )


def members_of(run: Run, log: Log = quiet) -> EnsembleSource:
    """Return the members of a trained ensemble as a source for `open_model`.

    Args:
        run: a run of kind "ensemble".
        log: called with a line if the weights of the members are not chosen yet.

    Returns:
        The source.

    Raises:
        ValueError: recipe.json does not hold a recipe, or a member is not trained yet.
    """
    recipe = recipe_of(run)
    assert isinstance(recipe, schema.EnsembleRecipe)
    models = planned(recipe)
    folders = [model.run or str(run.path / "members" / model.name) for model in models]
    for number, (model, folder) in enumerate(zip(models, folders, strict=True), start=1):
        if not model.run and not is_run(Path(folder)):
            raise ValueError(
                f"{run.path}: member {number} of {len(models)} ({model.title}) is not trained yet. "
                f"Continue with `mandoo --resume --run_dir={run.path}`."
            )
    weights = chosen_weights(run, folders) if recipe.choose_weights else ()
    if recipe.choose_weights and not weights:
        log(
            f"{run.path}: the weights of the members are not chosen for these models yet, so they "
            "are equal; they are chosen at the end of training (--resume)"
        )
    return EnsembleSource(
        members=tuple(RunSource(folder) for folder in folders),
        join=weights_of_models(recipe, weights),
        name=f"{recipe.name} {run.path.name}",
        ranking=recipe.ranking,
        label=recipe.label,
    )


def chosen_weights(run: Run, folders: Sequence[str]) -> tuple[float, ...]:
    """Return the weights that were chosen for the members of an ensemble.

    Args:
        run: the run of the ensemble.
        folders: run directories of its models.

    Returns:
        One number for each member; () if none were chosen for these models.

    Raises:
        ValueError: the file is damaged.
    """
    file = run.path / MEMBER_WEIGHTS
    if not file.exists():
        return ()
    stored = read_json(file)
    if not isinstance(stored, dict) or not {"weights", "models"} <= set(stored):
        raise ValueError(f"{file}: not the weights of an ensemble. Delete it, and pass --resume.")
    if stored["models"] != contents_of_models(folders):
        return ()
    return tuple(float(weight) for weight in stored["weights"])


def contents_of_models(folders: Sequence[str]) -> list[str]:
    """Return a digest of each run that changes with its weights, recipe or projection."""
    return [_content_of(read_run(folder)) for folder in folders]


def _content_of(run: Run) -> str:
    weights = checkpoint_digest(best_weights(run)) if run.kind == "recipe" else ""
    projection = run.path / PROJECTION
    fitted = hashlib.sha256(projection.read_bytes()).hexdigest() if projection.exists() else ""
    return digest_of([run.kind, run.recipe, weights, fitted])
