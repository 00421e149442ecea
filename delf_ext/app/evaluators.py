"""Evaluators: a model in, named figures out. One for each task of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from typing import Protocol

from data_io.records import ImageList
from delf_ext.evaluation.metrics import summarize
from delf_ext.features.embedder import EmbedsImages, Ensemble
from delf_ext.pipeline import embed, score, truth_of
from delf_ext.recipes import schema
from delf_ext.recipes.part import Part, not_built


class Evaluator(Protocol):
    """Call: model -> (name, value) of each figure. select_by: the figure that chooses the best weights."""

    select_by: str

    def __call__(self, model: EmbedsImages | Ensemble) -> Iterator[tuple[str, float]]: ...


@singledispatch
def build_evaluator(
    config: Part, query: ImageList, gallery: ImageList, batch_size: int
) -> Evaluator:
    """Return the evaluator of a task on these lists. Raises: UsageError for a task that is not built yet."""
    raise not_built(config, build_evaluator)


@build_evaluator.register(schema.Retrieval)
class RetrievalEvaluator:
    """Ranks the gallery for every query; images of the query's class are relevant."""

    def __init__(
        self, config: schema.Retrieval, query: ImageList, gallery: ImageList, batch_size: int
    ) -> None:
        self.select_by = config.select_by
        self._query, self._gallery, self._batch_size = query, gallery, batch_size

    def __call__(self, model: EmbedsImages | Ensemble) -> Iterator[tuple[str, float]]:
        retrieval = embed(model, self._query, self._gallery, self._batch_size)
        yield from summarize(score(retrieval, truth_of(retrieval)))
