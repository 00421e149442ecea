"""The records of validation, task, limits, and of what follows training. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from delf_ext.config import require
from delf_ext.recipes.part import Part, one_of

# --- validation and task ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Validation(Part):
    """Base of the ways to hold images back. every_steps: training steps between two evaluations."""

    is_base: ClassVar[bool] = True
    every_steps: int = 150

    def check(self) -> None:
        require(
            self.every_steps >= 1,
            f"{type(self).__name__}.every_steps must be at least 1. Received {self.every_steps}.",
        )


@dataclass(frozen=True)
class HeldOutClasses(Validation):
    """Base of the class-disjoint splits. share: of the training classes; the other two bound the dev lists."""

    is_base: ClassVar[bool] = True
    share: float = 0.1
    max_queries: int = 300
    gallery_per_class: int = 20

    def check(self) -> None:
        super().check()
        require(
            0 < self.share < 1,
            f"{type(self).__name__}.share must be above 0 and below 1. Received {self.share}.",
        )


@dataclass(frozen=True)
class ClassBlock(HeldOutClasses):
    """One contiguous block of classes."""


@dataclass(frozen=True)
class RandomClasses(HeldOutClasses):
    """Classes drawn singly."""


@dataclass(frozen=True)
class StratifiedFolds(Validation):
    """Of every class the same share; fold number `fold` of `folds` is held back and searched for in the others."""

    folds: int = 5
    fold: int = 0

    def check(self) -> None:
        super().check()
        require(
            0 <= self.fold < self.folds,
            f"StratifiedFolds.fold must be 0..{self.folds - 1}. Received {self.fold}.",
        )


@dataclass(frozen=True)
class Given(Validation):
    """The queries and the gallery of the data."""


@dataclass(frozen=True)
class Retrieval(Part):
    """Find images of the same class.

    select_by: the metric that chooses the best weights. ranked_by: "similarity", "knn" (the classes of the nearest
    images) or "predicted_class" (a query whose class is guessed wrong finds nothing).
    """

    select_by: str = "mAP"
    ranked_by: str = "similarity"

    def check(self) -> None:
        known = ("mAP", "recall_at_1", "mean_last_rank")
        require(
            self.select_by in known,
            f"Retrieval.select_by must be {one_of(known)}. Received {self.select_by!r}.",
        )
        known = ("similarity", "knn", "predicted_class")
        require(
            self.ranked_by in known,
            f"Retrieval.ranked_by must be {one_of(known)}. Received {self.ranked_by!r}.",
        )


@dataclass(frozen=True)
class Classification(Part):
    """Name the class of an image."""

    select_by: str = "gap"


@dataclass(frozen=True)
class LabelPaths(Part):
    """Name the path of an image in a label tree. decoding: "expected_score" or "greedy"."""

    select_by: str = "partial_score"
    decoding: str = "expected_score"


Task = Retrieval | Classification | LabelPaths

# --- after training -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits(Part):
    """max_gmac: billions of multiply-accumulates for one image; 0 = no limit. float32: no lower precision."""

    max_gmac: float = 0.0
    float32: bool = False


@dataclass(frozen=True)
class Pca(Part):
    """Principal components."""

    dims: int = 128


@dataclass(frozen=True)
class PcaWhitening(Part):
    """Principal components, each to variance 1."""

    dims: int = 128


@dataclass(frozen=True)
class WithinClassWhitening(Part):
    """The scatter within classes to the identity. shrinkage: share of the identity in the scatter."""

    shrinkage: float = 0.1


@dataclass(frozen=True)
class Lda(Part):
    """Linear discriminant analysis. dims: 0 = one less than there are classes."""

    shrinkage: float = 0.03
    dims: int = 0


@dataclass(frozen=True)
class EncoderDecoder(Part):
    """A learned reduction that keeps reconstruction and neighbours."""

    dims: int = 64
    neighbours: int = 10


Reduction = Pca | PcaWhitening | WithinClassWhitening | Lda | EncoderDecoder


@dataclass(frozen=True)
class TestTime(Part):
    """Further copies of a photograph that are embedded with it.

    copies: names in `features.query_copies.COPIES`. scales: of the input size.
    join: "mean" of the unit vectors or "concatenation". queries_only: the gallery is embedded once.
    """

    copies: tuple[str, ...] = ()
    scales: tuple[float, ...] = ()
    join: str = "mean"
    queries_only: bool = False

    def check(self) -> None:
        known = ("mean", "concatenation")
        require(
            self.join in known, f"TestTime.join must be {one_of(known)}. Received {self.join!r}."
        )


@dataclass(frozen=True)
class About(Part):
    """For readers: what the recipe reproduces, how it is run, what it costs here and which numbers to expect."""

    summary: str = ""
    source: str = ""
    command: str = ""
    cost: str = ""
    expected: str = ""
