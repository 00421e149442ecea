"""Find out which queries a model was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_io.files.contents import contents_of
from data_io.files.names import shown
from data_io.records import ImageList
from data_io.tables.spelling import spelling_key
from delf_ext.features.embedder import Adapted, AnyEmbedder, Ensemble, HeldBack

NUM_SHOWN = 5
"""Number of photographs that get a line each."""


@dataclass(frozen=True)
class TrainedQueries:
    """The queries of an evaluation that a model was trained on.

    Attributes:
        num_queries: number of queries.
        num_classes: number of classes of the queries.
        num_trained_classes: number of those classes that are trained classes, by name.
        photographs: (path, trained class) of each query photograph that was trained on.
        is_known: False if the model was trained but does not list its photographs.
    """

    num_queries: int = 0
    num_classes: int = 0
    num_trained_classes: int = 0
    photographs: tuple[tuple[str, str], ...] = ()
    is_known: bool = True

    def notes(self, num_shown: int = NUM_SHOWN) -> Iterator[str]:
        """Yield lines for a report.

        Args:
            num_shown: largest number of photographs with a line each.

        Yields:
            Lines without a line break.
        """
        if not self.is_known:
            yield (
                "the run does not list the photographs that it was trained on: unknown whether "
                "queries are among them"
            )
        if not self.photographs:
            return
        yield (
            f"{len(self.photographs)} of {self.num_queries} query photographs were trained on "
            "(--allow_trained_photographs)"
        )
        for path, name in self.photographs[:num_shown]:
            yield f"trained on: {shown(path)}, as class {shown(name)}"
        if len(self.photographs) > num_shown:
            yield f"... and {len(self.photographs) - num_shown} more"

    def figures(self) -> dict[str, Any]:
        """Return the counts and the paths as JSON data."""
        return {
            "num_query_classes": self.num_classes,
            "num_trained_query_classes": self.num_trained_classes,
            "trained_photographs_known": self.is_known,
            "num_trained_photographs": len(self.photographs),
            "trained_photographs": [list(photograph) for photograph in self.photographs],
        }


def trainings_of(model: AnyEmbedder) -> list[HeldBack]:
    """Return how each network of a model was trained, and what its head was fitted on."""
    if isinstance(model, Adapted):
        head = () if model.fitted_on is None else (model.fitted_on,)
        return [*trainings_of(model.base), *head]
    if isinstance(model, Ensemble):
        return [training for member in model.members for training in trainings_of(member)]
    return [model.held_back]


def was_trained(model: AnyEmbedder) -> bool:
    """Return whether the classes of a model's training are known."""
    return any(training.classes for training in trainings_of(model))


def trained_queries(
    model: AnyEmbedder, query: ImageList, class_names: Sequence[str]
) -> TrainedQueries:
    """Find the queries that a model was trained on.

    Args:
        model: an embedder or an ensemble.
        query: the queries.
        class_names: name of each label.

    Returns:
        The counts and the photographs.
    """
    trainings = [training for training in trainings_of(model) if training.classes]
    labels = [] if query.labels is None else np.unique(query.labels[query.has_label]).tolist()
    names = {class_names[label] for label in labels if label < len(class_names)}
    # A class may be written in another way in these data: Milk and milk, NFC and NFD.
    trained_names = {spelling_key(name) for training in trainings for name in training.classes}
    known = [training.photographs for training in trainings if training.photographs is not None]
    class_of: dict[str, str] = {}
    for listed in known:
        class_of |= listed.class_of_trained
    contents = contents_of(query.paths.tolist()) if class_of else []
    photographs = [
        (path, class_of[content])
        for path, content in zip(query.paths.tolist(), contents)
        if content in class_of
    ]
    return TrainedQueries(
        num_queries=len(query),
        num_classes=len(names),
        num_trained_classes=sum(spelling_key(name) in trained_names for name in names),
        photographs=tuple(photographs),
        is_known=len(known) == len(trainings),
    )


def require_untrained(model: AnyEmbedder, found: TrainedQueries, allowed: bool) -> None:
    """Raise an error if query photographs were trained on, unless that is allowed.

    Args:
        model: gives the name for the message.
        found: from `trained_queries`.
        allowed: whether such queries are measured all the same.

    Raises:
        TrainedPhotographs: a query photograph was trained on.
    """
    if found.photographs and not allowed:
        path, name = found.photographs[0]
        raise TrainedPhotographs(
            f"{model.name}: {len(found.photographs)} of {found.num_queries} query photographs were "
            f"trained on; the first: {shown(path)}, as class {shown(name)}. Measure on photographs "
            "that the model has not seen, or pass --allow_trained_photographs to measure all the "
            "same."
        )


class TrainedPhotographs(ValueError):
    """Queries that the model was trained on."""
