"""Measure a model on the validation lists of a recipe: one evaluator for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import singledispatch

import numpy as np

from data_io.records import ImageList
from delf_ext.app.label_scores import Classes, collect
from delf_ext.config import require
from delf_ext.evaluation.calibration import normalized
from delf_ext.evaluation.classification import Predicted
from delf_ext.evaluation.classification import summarize as summarize_labels
from delf_ext.evaluation.metrics import summarize
from delf_ext.features.embedder import Embedder, EmbedsImages, Ensemble
from delf_ext.features.logits import log_softmax, logits_of_images
from delf_ext.pipeline import embed, score, truth_of
from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part

Evaluator = Callable[[EmbedsImages | Ensemble], Iterator[tuple[str, float]]]
"""Takes a model and yields (name, value) of each metric."""
CENTRES_TEMPERATURE = 0.05
"""Temperature of the cosines with class centres, for a head without a classifier; that of
NormSoftmax (Zhai and Wu 2019). It does not change which class is first."""


@singledispatch
def build_evaluator(
    config: Part,
    query: ImageList,
    gallery: ImageList,
    batch_size: int,
    class_names: Sequence[str] = (),
) -> Evaluator:
    """Return the evaluator of a task.

    Args:
        config: the task of a recipe.
        query: images to search with.
        gallery: images to search in.
        batch_size: images per call of the model.
        class_names: name of each label.

    Returns:
        A function from a model to its metrics.

    Raises:
        NotBuilt: if no evaluator exists for this task yet.
    """
    raise NotBuilt(config, build_evaluator)


def require_evaluator(config: Part, validation: schema.Validation | None = None) -> None:
    """Raise UsageError if the task of a recipe cannot be measured on its dev split.

    Args:
        config: the task.
        validation: the dev split; None = none.

    Raises:
        UsageError: the task is not built yet, or the dev split has other classes than training.
        NotBuilt: no evaluator exists for this task yet.
    """
    if build_evaluator.dispatch(type(config)) is build_evaluator.dispatch(Part):
        raise NotBuilt(config, build_evaluator)
    if isinstance(config, schema.Retrieval):
        require(
            config.ranked_by == "similarity",
            f'Retrieval.ranked_by="{config.ranked_by}" is not built yet. Built: "similarity".',
        )
    require(
        not isinstance(config, schema.Classification)
        or not isinstance(validation, schema.HeldOutClasses),
        f"task Classification predicts trained classes, but validation {type(validation).__name__} "
        "holds whole classes back: set validation=StratifiedFolds or Given, or task=Retrieval.",
    )


@build_evaluator.register(schema.Retrieval)
def _retrieval_evaluator(
    config: schema.Retrieval,
    query: ImageList,
    gallery: ImageList,
    batch_size: int,
    class_names: Sequence[str] = (),
) -> Evaluator:
    def evaluate(model: EmbedsImages | Ensemble) -> Iterator[tuple[str, float]]:
        retrieval = embed(model, query, gallery, batch_size)
        yield from summarize(score(retrieval, truth_of(retrieval)))

    return evaluate


@build_evaluator.register(schema.Classification)
def _classification_evaluator(
    config: schema.Classification,
    query: ImageList,
    gallery: ImageList,
    batch_size: int,
    class_names: Sequence[str] = (),
) -> Evaluator:
    """Measure the softmax of the classifier; without one, the nearest class centres."""
    query = query.labelled()
    names = np.array(class_names, str)[query.known_labels("task Classification")]

    def evaluate(model: EmbedsImages | Ensemble) -> Iterator[tuple[str, float]]:
        if isinstance(model, Embedder) and model.with_logits is not None:
            logits = logits_of_images(
                model, query, batch_size=batch_size, description="embedding queries"
            )
            log_scores = log_softmax(np.nan_to_num(logits.mean))
            yield from _figures(log_scores, names, logits.class_names)
            return
        retrieval = embed(model, query, gallery.labelled(), batch_size)
        rows = np.isin(query.ids, retrieval.query.ids)
        originals, labels = np.unique(
            retrieval.gallery.known_labels("task Classification"), return_inverse=True
        )
        known = tuple(class_names[label] for label in originals)
        classes = Classes(known, retrieval.gallery_features, labels)
        centres = collect(retrieval.query_features, classes, 1).centres
        yield from _figures(normalized(centres, CENTRES_TEMPERATURE), names[rows], known)

    return evaluate


def _figures(
    log_scores: np.ndarray, true_names: np.ndarray, names: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """Yield the metrics of queries; those of a class without a score are always wrong."""
    place_of = {name: place for place, name in enumerate(names)}
    true = np.array([place_of.get(name, -1) for name in true_names.tolist()], np.int64)
    predicted = Predicted(true, log_scores.argmax(axis=1), np.exp(log_scores.max(axis=1)))
    yield from summarize_labels(predicted, int(np.sum(true >= 0)))
