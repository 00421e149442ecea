"""Fit the reduction of an ensemble on the joined embeddings of its members."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_io.datasets import DataSet
from data_io.images import check_images
from data_io.progress import Log
from delf_ext.app.data import Split, content_of, split
from delf_ext.app.ensemble_training import require_same_classes
from delf_ext.app.run_reduction import Reducing, fit_run_reduction, require_fitting
from delf_ext.app.trained_on import trainings_of
from delf_ext.app.training_settings import Settings
from delf_ext.config import UsageError
from delf_ext.features.embedder import Ensemble, HeldBack
from delf_ext.recipes import schema
from delf_ext.runs.opening import open_model, plain_digest
from delf_ext.runs.recipe_run import members_of
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import write_run
from delf_ext.runs.sources import Runtime


def fit_ensemble_reduction(
    run: Run, recipe: schema.EnsembleRecipe, data: DataSet, settings: Settings, log: Log
) -> None:
    """Fit the reduction of an ensemble, if it has one, when all members are trained.

    It is fitted on the images that no member held out; if members held out different folds, on
    all: each image was trained on by most of them.

    Args:
        run: the run of the ensemble.
        recipe: its recipe.
        data: the data set.
        settings: seed and precision.
        log: called with each line of the result.

    Raises:
        UsageError: the members were trained on different classes.
        ValueError: the reduction is to be chosen, and the members held out different images.
    """
    if recipe.reduction is None:
        return
    source = members_of(run, log)
    model = open_model(source, Runtime(mixed_precision=settings.mixed_precision), log=log)
    assert isinstance(model, Ensemble)
    require_same_classes(model.name, [training.classes for training in trainings_of(model)])
    parts = dev_split(model, data, settings)
    labels = parts.train.known_labels("a reduction")
    num_classes = len(set(labels.tolist()))
    require_fitting(recipe.reduction, len(labels), num_classes, len(parts.query))
    digest = content_of(parts.train)
    if digest != run.facts.data_digest:
        facts = dataclasses.replace(run.facts, data_digest=digest)
        run = write_run(run.path, run.kind, run.recipe, facts)
    work = Reducing(run, recipe.reduction, model, plain_digest(source), parts, settings.seed, log)
    fit_run_reduction(work)
    model.release()


def dev_split(model: Ensemble, data: DataSet, settings: Settings) -> Split:
    """Return the images that all members were trained on, and their common dev split.

    Args:
        model: the ensemble.
        data: the data set.
        settings: number of images that are used.

    Returns:
        The split; all labelled images without dev split if the members held out different images.
    """
    images = data.train.labelled()
    if 0 < settings.max_images < len(images):
        images = images.take(np.arange(settings.max_images))
    images = check_images(images)
    try:
        held_back = model.held_back
    except UsageError:
        held_back = HeldBack()
    return split(images, data, held_back.validation, held_back.seed, held_back.names)
