"""Reopen a run to continue its training: read its state, then write what has changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from data_io.checkpoint_folder import CheckpointFolder
from delf_ext.app.data import content_of
from delf_ext.app.training_job import Job
from delf_ext.config import UsageError
from delf_ext.recipes import codec
from delf_ext.recipes.changes import with_epochs
from delf_ext.runs import run_directory
from delf_ext.runs.photographs import write_photographs
from delf_ext.runs.records import Run
from delf_ext.runs.run_directory import write_run

if TYPE_CHECKING:
    from delf_ext.models.embedding_model import EmbeddingModel


@dataclass(frozen=True)
class ResumeChanges:
    """What a resumed run may change; all else is as in the run.

    Attributes:
        epochs: new number of epochs in all; None = as before.
        eval_every_steps: steps between evaluations; None = as before.
        data_path: new place of the data; "" = as before.
        infer: flags that a later NSML submission uses; empty = as before.
    """

    epochs: int | None = None
    eval_every_steps: int | None = None
    data_path: str = ""
    infer: Mapping[str, Any] = field(default_factory=dict)


def reopen(job: Job, changes: ResumeChanges) -> EmbeddingModel:
    """Build the model of a run that is resumed, and read the state it saved last.

    Nothing is written before all of it has been read.

    Args:
        job: a job whose run is compared with its data.
        changes: what a resumed run may change.

    Returns:
        The model.

    Raises:
        UsageError: the run is already trained for more epochs.
        ValueError: the state cannot be read.
    """
    resumed = job.resumed
    assert resumed is not None
    run = resumed.run
    event = _apply(job, changes)
    model = job.build_model()
    job.prepare(model)
    if not CheckpointFolder(run.checkpoints, "last").numbers():
        _load_first_weights(job, model, run)
    job.prepared.state.restore(resumed.classes_now)
    if resumed.changes:
        event += f" with changed data: {resumed.changes}"
        job.log(f"the data have changed: {resumed.changes}")
        for name in ("last", "best"):
            CheckpointFolder(run.checkpoints, name).note_class_names(resumed.classes_now)
    photographs = job.photographs().after(resumed.before)
    is_same_split = resumed.before and photographs.held_out == resumed.before.held_out
    if resumed.changes and not is_same_split:
        # The best figure so far was measured on other photographs.
        CheckpointFolder(run.checkpoints, "best").forget_facts()
    facts = dataclasses.replace(
        run.facts,
        data=changes.data_path or run.facts.data,
        data_layout=job.data.layout or run.facts.data_layout,
        data_digest=content_of(job.images),
        class_names=job.class_names,
        held_out=job.split.held_out,
        settings=dataclasses.asdict(job.settings),
        infer=run_directory.jsonable(changes.infer) or run.facts.infer,
        history=(*run.facts.history, event),
    )
    if facts.data_digest != run.facts.data_digest and not resumed.changes:
        job.log("files were renamed: the images of an epoch now come in another order")
    write_run(run.path, run.kind, codec.to_json(job.recipe), facts)
    if resumed.changes:
        write_photographs(run.path, photographs)
    return model


def _apply(job: Job, changes: ResumeChanges) -> str:
    """Change epochs and evaluation of the recipe; return a line for the history."""
    event = "resumed"
    epochs = changes.epochs
    if epochs is not None:
        steps_per_epoch = len(job.plan(0))
        numbers = CheckpointFolder(job.run_dir / "checkpoint", "last").numbers()
        epochs_trained = max(numbers, default=0) / steps_per_epoch
        if epochs < epochs_trained:
            raise UsageError(
                f"--epochs={epochs}: the run is already trained for {epochs_trained:.1f} "
                "epochs. Pass a larger number."
            )
        if epochs != job.recipe.epochs:
            event += f", epochs {job.recipe.epochs} -> {epochs}"
            job.log(f"epochs in all: {epochs} instead of {job.recipe.epochs} (--epochs)")
            job.recipe = with_epochs(job.recipe, epochs)
    validation = job.recipe.validation
    every_steps = changes.eval_every_steps
    if every_steps and validation is not None and every_steps != validation.every_steps:
        event += f", evaluation every {every_steps} steps"
        validation = dataclasses.replace(validation, every_steps=every_steps)
        job.recipe = dataclasses.replace(job.recipe, validation=validation)
    return event


def _load_first_weights(job: Job, model: EmbeddingModel, run: Run) -> None:
    """Load the weights that a run started from: an earlier version saved no first state."""
    if any(line.startswith("starts from ") for line in run.facts.history):
        raise ValueError(
            f"{run.path}: was stopped before its first checkpoint, and it started from "
            "another run. Start it again with --from_run in another --run_dir."
        )
    if run.facts.weights:
        job.log(str(model.trunk.load(run.facts.weights)))
