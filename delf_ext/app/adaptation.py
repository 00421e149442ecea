"""Fit a head on the embeddings of a model, and write it as a run."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np

from data_io.datasets import DataSet
from data_io.files.artifacts import write_json
from data_io.files.output_files import expanded
from data_io.photographs import Photographs, digests_of
from data_io.progress import Log, progress, quiet
from delf_ext.app.adaptation_result import Adaptation, figures_of
from delf_ext.app.data import content_of, load_named
from delf_ext.app.head_choice import Choice, choose_head
from delf_ext.app.head_folds import folds_for, held_out_side
from delf_ext.app.labelled_embeddings import Labelled, embed_labelled, labelled_images
from delf_ext.config import UsageError, require
from delf_ext.features.embedder import Adapted, Embedder, Ensemble
from delf_ext.features.extraction import BATCH_SIZE
from delf_ext.features.reductions.build import fit_reduction
from delf_ext.features.test_time import copies_of, named_copies
from delf_ext.recipes.adapted_parts import AdaptedRecipe
from delf_ext.recipes.part import BatchSize, Seed, coerced
from delf_ext.runs.adapted_run import Head, base_of, write_adapted
from delf_ext.runs.opening import base_digest, open_model
from delf_ext.runs.records import Facts
from delf_ext.runs.run_directory import commit, is_run, versions
from delf_ext.runs.sources import ModelSource, RunSource, Runtime, source_of

QUESTIONS = {
    "seen_classes": "new photographs of the labelled products",
    "unseen_classes": "products that have no label yet",
}
"""Value of --for -> what the head is chosen for."""
FIGURES = "adapt.json"
FEW_CLASSES = 10


def adapt(
    source: ModelSource | str | Path,
    data: DataSet | str | Path,
    question: str,
    out: str | Path,
    *,
    copies: tuple[str, ...] | None = None,
    join: str = "mean",
    runtime: Runtime = Runtime(),  # noqa: B008 frozen
    features: Path | None = None,
    store: bool = True,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    log: Log = quiet,
) -> Adaptation:
    """Fit a head on a model's embeddings of labelled images; the network is not trained.

    PCA, PCA-whitening, within-class whitening and LDA, each with several settings, are compared
    with no head by cross-validation on the training images. The best one is fitted on all of
    them, unless a paired test says that it may be no better than no head.

    Args:
        source: the base model, as for `open_model`.
        data: a data set or its path; its labelled training images are used.
        question: "seen_classes" for new photographs of the labelled products, "unseen_classes"
            for products that have no label yet.
        out: directory for the new run.
        copies: copies of each photograph that are embedded with it, now and in each later search:
            "mirror", or "x1.5" for 1.5 times the image size; None = those of the model's recipe.
        join: "mean" averages the copies; "concatenation" averages those of one size, and
            concatenates the sizes.
        runtime: library and precision that compute the embeddings.
        features: folder that `extract` filled; embeddings found there are not computed again.
        store: store new embeddings.
        batch_size: images per call of the model.
        seed: seed of the folds and of the bootstrap.
        log: called with each line of the result.

    Returns:
        The run and the table of the cross-validation.

    Raises:
        UsageError: an argument does not fit, `out` holds a run, or the model has a head already.
        ValueError: the data have too few labelled images or classes, or cannot be read.
    """
    coerced(batch_size, BatchSize, "batch_size")
    coerced(seed, Seed, "seed")
    require_question(question)
    asked = None if copies is None else named_copies(copies, join)
    out = expanded(out)
    require_no_run(out)
    if isinstance(source, (str, Path)):
        source = source_of(source)
    if isinstance(source, RunSource):
        # A head is fitted on the network: another reduction behind one would only add noise.
        source = dataclasses.replace(source, reduced=False)
    data, data_name = load_named(data, "", log)
    images = labelled_images(data)
    # Too few photographs are named before the long work; some may be left out later.
    folds_for(held_out_side(question, images), images, np.ones(len(images), bool), seed)
    model = open_model(
        source, runtime, store=store, features=features, calibration=lambda: images, log=log
    )
    base = without_head(model)
    test_time = base.test_time if asked is None else asked
    if test_time is not None:
        test_time = dataclasses.replace(test_time, queries_only=False)
    copies_of(base, test_time)
    labelled = embed_labelled(base, images, data, test_time, batch_size, log)
    base.release()
    started_s = time.monotonic()
    choice = _choose(labelled, question, seed, log)
    recipe = AdaptedRecipe(
        name=f"{choice.kind} on {base.name}",
        base=base_of(source, out),  # type: ignore[arg-type]
        base_digest=base_digest(source, test_time),
        reduction=choice.reduction,
        question=question,  # type: ignore[arg-type]
        test_time=test_time,
        ranking=base.ranking,
    )
    # Another process may have written its run in the meantime.
    require_no_run(out)
    run = write_adapted(out, _head(recipe, labelled, data, data_name, seed))
    seconds = time.monotonic() - started_s
    write_json(out / "metrics" / FIGURES, figures_of(choice, question, data_name, seed))
    return Adaptation(run, choice, len(labelled.images), seconds)


def require_question(question: str | None) -> None:
    """Raise UsageError that explains both questions unless `question` is one of them."""
    choices = " or ".join(f"--for={name} ({about})" for name, about in QUESTIONS.items())
    require(
        question in QUESTIONS, f"adapt chooses a head for what is searched later: pass {choices}."
    )


def require_no_run(out: Path) -> None:
    """Raise UsageError if a directory holds a run already."""
    require(
        not is_run(out),
        f"{out}: holds a run already. Pass a new directory, or delete this one first.",
    )


def without_head(model: Embedder | Ensemble | Adapted) -> Embedder | Ensemble:
    """Return the model.

    Raises:
        UsageError: it has a head already.
    """
    if isinstance(model, Adapted):
        raise UsageError(
            f"{model.name} has a head already: adapt the model that it was fitted on "
            f"({model.base.name})."
        )
    return model


def _choose(labelled: Labelled, question: str, seed: int, log: Log) -> Choice:
    images = labelled.images
    is_query = labelled.is_new
    num_trained = int(np.sum(~is_query))
    if num_trained:
        log(
            f"the base model was trained on {num_trained} of these {len(images)} photographs: "
            + (
                "only the others are queries"
                if is_query.any()
                else "the figures below are too high, and the choice is less certain"
            )
        )
    if not is_query.any():
        is_query = np.ones(len(images), bool)
    side = held_out_side(question, images)
    if side == "classes" and question == "seen_classes":
        log(
            "a typical product has fewer than 3 photographs, too few to hold one back: products "
            "are held back instead"
        )
    folds = folds_for(side, images, is_query, seed)
    labels = images.known_labels("mandoo adapt")
    num_classes = len(np.unique(labels))
    if question == "unseen_classes" and num_classes < FEW_CLASSES:
        log(f"warning: {num_classes} classes say little about classes that are not among them")
    log(
        f"adapt: {len(images)} photographs of {num_classes} classes, {len(folds)} folds, "
        f"for {QUESTIONS[question]}"
    )
    with progress(len(folds), "cross-validation", "fold") as bar:
        return choose_head(
            images.ids,
            labelled.embeddings,
            labels,
            folds,
            seed,
            lambda: bar.update(1),
            images.groups if images.same_group_is_junk else None,
        )


def _head(
    recipe: AdaptedRecipe, labelled: Labelled, data: DataSet, data_name: str, seed: int
) -> Head:
    """Fit the chosen reduction on all images."""
    images = labelled.images
    facts = Facts(
        data=data_name,
        data_layout=data.layout,
        data_digest=content_of(images),
        settings={"seed": seed},
        versions=versions(),
        commit=commit(),
    )
    if recipe.reduction is None:
        return Head(recipe, None, facts, Photographs())
    labels = images.known_labels("mandoo adapt")
    facts = dataclasses.replace(
        facts, class_names=tuple(data.class_names[label] for label in np.unique(labels))
    )
    projection = fit_reduction(recipe.reduction, labelled.embeddings, labels)
    return Head(recipe, projection, facts, Photographs(digests_of(images, data.class_names)))
