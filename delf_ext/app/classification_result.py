"""Define the result of `mandoo classify`: labels with probabilities, and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from data_io.duplicates import Duplicates
from data_io.records import ImageList
from delf_ext.app.label_choice import Tried
from delf_ext.app.labels import Labels
from delf_ext.app.trained_on import TrainedQueries
from delf_ext.evaluation.classification import (
    Predicted,
    accuracy,
    confusions,
    expected_calibration_error,
    global_average_precision,
    macro_f1,
    reliability,
)
from delf_ext.evaluation.intervals import score_interval, statistic_interval
from delf_ext.pipeline import Retrieval
from delf_ext.recipes import codec
from delf_ext.recipes.label_parts import Labelling

UNKNOWN = "unknown"
"""Label of a photograph whose most probable class is not probable enough."""
Figure = Callable[[Predicted, int], float]
FIGURES: Mapping[str, Figure] = {
    "macro_f1": lambda predicted, _: macro_f1(predicted),
    "gap": global_average_precision,
    "ece": lambda predicted, _: expected_calibration_error(predicted),
}
"""Name -> figure of predictions and of how many queries have their class in the gallery."""
FINE = "fine"
"""Name of the level of the classes themselves, if there are coarser ones."""


@dataclass(frozen=True, eq=False)
class Classification:
    """Result of `classify`.

    Attributes:
        model: name of the model.
        data: name or path of the data.
        images: the Q photographs.
        class_names: name of each label.
        labels: their labels.
        labelling: method and settings.
        tried: the best settings of each method that was tried.
        choosing: what the method was chosen on; "" if nothing was chosen.
        warning: why the choice is optimistic; "" if it is not.
        gallery: names of the classes of the gallery.
        num_gallery: number of labelled gallery images.
        failed: bool [Q], photographs whose embedding failed.
        trained: queries that the model was trained on.
        duplicates: gallery images that are a query's own photograph.
        levels: name of a coarser level -> label of each class.
        seed: seed of folds and bootstrap.
        retrieval: embeddings without the head, and what was skipped.
        digest: of the model.
    """

    model: str
    data: str
    images: ImageList
    class_names: Sequence[str]
    labels: Labels
    labelling: Labelling
    tried: tuple[Tried, ...]
    choosing: str
    warning: str
    gallery: tuple[str, ...]
    num_gallery: int
    failed: np.ndarray
    trained: TrainedQueries
    duplicates: Duplicates
    levels: Mapping[str, tuple[str, ...]]
    seed: int
    retrieval: Retrieval
    digest: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_known(self) -> np.ndarray:
        """Photographs whose label is given, bool [Q]."""
        return (self.labels.probabilities[:, 0] >= self.labelling.unknown_below) & ~self.failed

    def name_of(self, label: int) -> str:
        """Return the name of a label; "" for -1."""
        return self.class_names[label] if label >= 0 else ""

    @property
    def names(self) -> list[str]:
        """The given label of each photograph: the name of a class, or "unknown"."""
        return [
            self.name_of(label) if known else UNKNOWN
            for label, known in zip(self.labels.labels[:, 0].tolist(), self.is_known)
        ]

    def rows(self) -> Iterator[dict[str, str | float]]:
        """Yield a row for each photograph: path, label, probability, further classes and levels.

        Yields:
            Column -> value. `best_label` is the most probable class, also of a photograph whose
            `label` is "unknown".
        """
        true = self.images.labels
        for row, name in enumerate(self.names):
            labels = self.labels.labels[row].tolist()
            shares = [round(float(one), 6) for one in self.labels.probabilities[row]]
            cells: dict[str, str | float] = {
                "path": str(self.images.paths[row]),
                "label": name,
                "probability": shares[0],
                "best_label": self.name_of(labels[0]),
            }
            for place, rank in enumerate(("second", "third")[: len(labels) - 1], start=1):
                cells[f"{rank}_label"] = self.name_of(labels[place])
                cells[f"{rank}_probability"] = shares[place]
            for level, of in self.labels.levels.items():
                cells[level] = str(of.names[row])
                cells[f"{level}_probability"] = round(float(of.probabilities[row]), 6)
            if true is not None:
                cells["true_label"] = self.name_of(int(true[row]))
            yield cells

    # --- figures of labelled photographs

    @cached_property
    def predicted(self) -> Predicted:
        """Predictions for the photographs that have a label."""
        rows = np.flatnonzero(self.images.has_label)
        labels = self.images.labels
        true = np.zeros(0, np.int64) if labels is None else labels[rows]
        return Predicted(true, self.labels.labels[rows, 0], self.labels.probabilities[rows, 0])

    @property
    def is_measured(self) -> bool:
        """Whether a photograph has a label."""
        return len(self.predicted.true) > 0

    @cached_property
    def is_findable(self) -> np.ndarray:
        """Labelled photographs whose class is in the gallery, bool [Q]."""
        in_gallery = np.isin(np.array(self.class_names), np.array(self.gallery))
        return in_gallery[self.predicted.true]

    def of_level(self, level: str) -> Predicted:
        """Return the predictions at a coarser level.

        Args:
            level: its name.

        Returns:
            The predictions for the labelled photographs; classes are numbers of the level.
        """
        rows = np.flatnonzero(self.images.has_label)
        names = np.array(self.levels[level])
        found = self.labels.levels[level]
        _, codes = np.unique(
            np.concatenate([names[self.predicted.true], found.names[rows]]), return_inverse=True
        )
        true, label = np.split(codes, 2)
        return Predicted(true, label, found.probabilities[rows])

    @cached_property
    def metrics(self) -> dict[str, tuple[float, float, float]]:
        """Name of a metric -> value, and lower and upper end of its 95 % bootstrap interval."""
        predicted = self.predicted
        findable = self.is_findable
        number = len(predicted.true)
        right = predicted.is_right.astype(float)
        found = {"accuracy": (accuracy(predicted), *score_interval(right, self.seed))}

        for name, figure in FIGURES.items():

            def of_rows(rows: np.ndarray, figure: Figure = figure) -> float:
                return figure(predicted.take(rows), int(findable[rows].sum()))

            value = of_rows(np.arange(number))
            ends = statistic_interval(of_rows, number, self.seed)
            # The draws of labels that are all right, or all wrong, are all equal.
            if name != "ece" and len(np.unique(right)) == 1 and not np.isnan(value):
                ends = found["accuracy"][1:]
            found[name] = (value, *ends)
        for level in self.levels:
            of_level = self.of_level(level).is_right.astype(float)
            found[f"accuracy_{level}"] = (
                float(of_level.mean()),
                *score_interval(of_level, self.seed),
            )
        return found

    @cached_property
    def answered(self) -> tuple[int, float]:
        """Number of labelled photographs with a given label, and the share of right ones."""
        known = self.is_known[self.images.has_label]
        return int(known.sum()), accuracy(self.predicted.take(known))

    def figures(self) -> dict[str, Any]:
        """Return everything as JSON data: figures, labels, and settings for `--like`."""
        figures: dict[str, Any] = {
            "model": self.model,
            "model_digest": self.digest,
            "data": self.data,
            "seed": self.seed,
            "num_images": len(self),
            "num_gallery": self.num_gallery,
            "num_classes": len(self.gallery),
            "num_failed": int(self.failed.sum()),
            "num_unknown": int(np.sum(~self.is_known)),
            "method": str(self.labelling),
            "labelling": codec.to_json(self.labelling),
            "chosen_on": self.choosing,
            "optimistic": self.warning,
            "tried": [
                {
                    "method": one.labelling.method,
                    "labelling": codec.to_json(one.labelling),
                    "accuracy": one.accuracy,
                    "gap": one.gap,
                    "ece": one.ece,
                }
                for one in self.tried
            ],
        }
        if self.is_measured:
            figures |= self._measured()
        figures["labels"] = list(self.rows())
        figures["skipped"] = [list(one) for one in self.retrieval.left_out.files]
        return figures

    def _measured(self) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for name, (value, low, high) in self.metrics.items():
            figures[name] = value
            figures[f"{name}_ci95"] = [low, high]
        num_answered, share_right = self.answered
        return figures | {
            "num_labelled": len(self.predicted.true),
            "num_not_findable": int(np.sum(~self.is_findable)),
            "num_answered": num_answered,
            "accuracy_answered": share_right,
            "reliability": [one._asdict() for one in reliability(self.predicted)],
            "confusions": [
                {
                    "true": self.name_of(one.true),
                    "label": self.name_of(one.label),
                    "number": one.number,
                    "num_true": one.num_true,
                }
                for one in confusions(self.predicted)
            ],
            "classes": list(self.classes()),
            "duplicates": self.duplicates.figures(),
            "training": self.trained.figures(),
        }

    def classes(self) -> Iterator[dict[str, Any]]:
        """Yield for each class of the queries: its name, queries, right ones and predictions.

        Yields:
            The figures of a class; the worst recall first, ties by label.
        """
        true, label, _ = self.predicted
        rows: list[dict[str, Any]] = []
        for one in np.unique(true).tolist():
            num_right = int(np.sum((true == one) & (label == one)))
            num_true = int(np.sum(true == one))
            rows.append(
                {
                    "class": self.name_of(one),
                    "num_queries": num_true,
                    "num_right": num_right,
                    "num_predicted": int(np.sum(label == one)),
                    "recall": num_right / num_true,
                }
            )
        yield from sorted(rows, key=lambda row: row["recall"])
