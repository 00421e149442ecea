"""Measure the folds of an ensemble, each on the images that it held out, and print a table."""

from __future__ import annotations

import dataclasses
from typing import Any

from data_io.checkpoint_folder import CheckpointFolder
from data_io.datasets import DataSet
from data_io.files.artifacts import write_json
from data_io.progress import Log
from delf_ext.app.evaluation import measure
from delf_ext.app.held_out import held_out_lists
from delf_ext.app.training_settings import Settings
from delf_ext.evaluation.fold_table import FoldRow, fold_table
from delf_ext.features.embedder import Ensemble
from delf_ext.recipes import schema
from delf_ext.recipes.members import Planned, planned
from delf_ext.runs.opening import open_model
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import jsonable, read_run
from delf_ext.runs.sources import RunSource, Runtime

FIGURES = "folds.json"


def report_folds(
    run: Run, recipe: schema.EnsembleRecipe, data: DataSet, settings: Settings, log: Log
) -> None:
    """Print and write the figures of all folds; nothing for an ensemble without folds.

    Args:
        run: the run of the ensemble.
        recipe: its recipe.
        data: the data set.
        settings: seed of the bootstrap, and precision.
        log: called with the table.
    """
    rows = [
        _row(run, model, data, settings)
        for model in planned(recipe, settings.seed)
        if model.fold is not None
    ]
    if not rows:
        return
    log(fold_table(rows, settings.seed))
    figures = [_figures(row) for row in rows]
    write_json(run.path / "metrics" / FIGURES, {"seed": settings.seed, "folds": figures})


def _figures(row: FoldRow) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in ("member", "fold", "best_epoch", "select_by")}
    return jsonable({**values, "best": row.best, "mAP": row.mean_average_precision})


def _row(run: Run, model: Planned, data: DataSet, settings: Settings) -> FoldRow:
    path = run.path / "members" / model.name
    member = read_run(path)
    assert model.recipe is not None and model.fold is not None
    best = CheckpointFolder(member.checkpoints, "best")
    last = CheckpointFolder(member.checkpoints, "last")
    trained = recipe_of(member)
    assert isinstance(trained, schema.Recipe)
    steps_per_epoch = last.numbers()[-1] / trained.epochs
    select_by = model.recipe.task.select_by
    embedder = open_model(RunSource(str(path)), Runtime(mixed_precision=settings.mixed_precision))
    assert not isinstance(embedder, Ensemble)
    parts = held_out_lists(data, embedder.held_back)
    assert parts is not None
    measured = measure(embedder, parts.query, parts.gallery, class_names=data.class_names)
    embedder.release()
    return FoldRow(
        member=model.title.partition(",")[0],
        fold=model.fold + 1,
        best_epoch=(best.numbers() or last.numbers())[-1] / steps_per_epoch,
        select_by=select_by,
        best=float(best.facts().get(select_by, float("nan"))),
        evaluated=dataclasses.replace(measured.evaluated, name=model.name),
    )
