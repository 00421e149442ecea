"""Measure a model on the validation lists of a recipe: one evaluator for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import singledispatch

from data_io.records import ImageList
from delf_ext.config import require
from delf_ext.evaluation.metrics import summarize
from delf_ext.features.embedder import EmbedsImages, Ensemble
from delf_ext.pipeline import embed, score, truth_of
from delf_ext.recipes import schema
from delf_ext.recipes.part import NotBuilt, Part

Evaluator = Callable[[EmbedsImages | Ensemble], Iterator[tuple[str, float]]]
"""Takes a model and yields (name, value) of each metric."""


@singledispatch
def build_evaluator(
    config: Part, query: ImageList, gallery: ImageList, batch_size: int
) -> Evaluator:
    """Return the evaluator of a task.

    Args:
        config: the task of a recipe.
        query: images to search with.
        gallery: images to search in.
        batch_size: images per call of the model.

    Returns:
        A function from a model to its metrics.

    Raises:
        NotBuilt: if no evaluator exists for this task yet.
    """
    raise NotBuilt(config, build_evaluator)


def require_evaluator(config: Part) -> None:
    """Raise UsageError if the task of a recipe cannot be measured yet."""
    if build_evaluator.dispatch(type(config)) is build_evaluator.dispatch(Part):
        raise NotBuilt(config, build_evaluator)
    if isinstance(config, schema.Retrieval):
        require(
            config.ranked_by == "similarity",
            f'Retrieval.ranked_by="{config.ranked_by}" is not built yet. Built: "similarity".',
        )


@build_evaluator.register(schema.Retrieval)
def _retrieval_evaluator(
    config: schema.Retrieval, query: ImageList, gallery: ImageList, batch_size: int
) -> Evaluator:
    def evaluate(model: EmbedsImages | Ensemble) -> Iterator[tuple[str, float]]:
        retrieval = embed(model, query, gallery, batch_size)
        yield from summarize(score(retrieval, truth_of(retrieval)))

    return evaluate
