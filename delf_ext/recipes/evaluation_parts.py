"""Define the records of validation, task and limits, and of the steps after training.

They use the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from delf_ext.config import require
from delf_ext.recipes.part import (
    AtLeast1,
    AtLeast2,
    Below1,
    Count,
    NotNegative,
    Part,
    Positive,
    Range,
)

# --- validation


@dataclass(frozen=True)
class Validation(Part):
    """Base of the ways to hold out training images as a dev split.

    Attributes:
        every_steps: training steps between two evaluations; 0: one after each epoch.
    """

    is_base: ClassVar[bool] = True
    every_steps: Count = 150


@dataclass(frozen=True)
class HeldOutClasses(Validation):
    """Base of the dev splits that share no class with training.

    Attributes:
        every_steps: training steps between two evaluations; 0: one after each epoch.
        share: share of the classes that is held out, above 0 and below 1.
        max_queries: largest number of query images.
        gallery_per_class: largest number of gallery images of a class.
    """

    is_base: ClassVar[bool] = True
    share: Annotated[float, Range(above=0, below=1)] = 0.1
    max_queries: AtLeast1 = 300
    gallery_per_class: AtLeast1 = 20


@dataclass(frozen=True)
class ClassBlock(HeldOutClasses):
    """Hold out one contiguous block of classes.

    Neighbouring classes of a data set often resemble each other. With a block, few classes of the
    dev split have a similar class in training, so the dev figures predict the test figures better.

    Attributes:
        every_steps: training steps between two evaluations; 0: one after each epoch.
        share: share of the classes that is held out.
        max_queries: largest number of query images.
        gallery_per_class: largest number of gallery images of a class.
    """


@dataclass(frozen=True)
class RandomClasses(HeldOutClasses):
    """Hold out random classes.

    Attributes:
        every_steps: training steps between two evaluations; 0: one after each epoch.
        share: share of the classes that is held out.
        max_queries: largest number of query images.
        gallery_per_class: largest number of gallery images of a class.
    """


@dataclass(frozen=True)
class StratifiedFolds(Validation):
    """Hold out the same share of every class, as queries; the training images are the gallery.

    A class of one image is never held out.

    Attributes:
        every_steps: training steps between two evaluations; 0: one after each epoch.
        folds: number of equal parts.
        fold: number of the part that is held out, from 0.
        split_seed: seed of the division into parts; None = the seed of the run.
    """

    folds: AtLeast2 = 5
    fold: Count = 0
    split_seed: int | None = None

    def _check(self) -> None:
        require(
            self.split_seed is None or 0 <= self.split_seed < 2**32,
            f"StratifiedFolds.split_seed must be 0..{2**32 - 1}. Received {self.split_seed}.",
        )
        require(
            0 <= self.fold < self.folds,
            f"StratifiedFolds.fold must be 0..{self.folds - 1}. Received {self.fold}.",
        )


@dataclass(frozen=True)
class Given(Validation):
    """Evaluate on the queries and the gallery of the data set.

    Attributes:
        every_steps: training steps between two evaluations; 0: one after each epoch.
    """


# --- task


@dataclass(frozen=True)
class Retrieval(Part):
    """Find images of the same class.

    Attributes:
        select_by: metric that chooses the best weights: "mAP", "recall_at_1" or "mean_last_rank".
        ranked_by: order of the gallery: "similarity" to the query; "knn", by the classes of the
            nearest images; or "predicted_class", by the predicted class of the query.
    """

    select_by: Literal["mAP", "recall_at_1", "mean_last_rank"] = "mAP"
    ranked_by: Literal["similarity", "knn", "predicted_class"] = "similarity"


@dataclass(frozen=True)
class Classification(Part):
    """Predict the class of an image.

    Attributes:
        select_by: metric that chooses the best weights; "gap" is global average precision.
    """

    select_by: Literal["gap", "accuracy", "macro_f1"] = "gap"


@dataclass(frozen=True)
class LabelPaths(Part):
    """Predict the path of an image in a label tree.

    Attributes:
        select_by: metric that chooses the best weights.
        decoding: "expected_score" chooses the path with the highest expected score; "greedy"
            chooses the most probable label of each level.
    """

    select_by: str = "partial_score"
    decoding: str = "expected_score"


Task = Retrieval | Classification | LabelPaths

# --- limits, and the steps after training


@dataclass(frozen=True)
class Limits(Part):
    """Limits of compute and precision.

    Attributes:
        max_gmac: billions of multiply-accumulates for one image; 0 means no limit.
        float32: use no lower precision, on any processor.
    """

    max_gmac: NotNegative = 0.0
    float32: bool = False


@dataclass(frozen=True)
class Pca(Part):
    """Reduce the embedding to its principal components.

    Attributes:
        dims: dimension after the reduction.
    """

    dims: AtLeast1 = 128


@dataclass(frozen=True)
class PcaWhitening(Part):
    """Reduce the embedding to its principal components, each scaled to variance 1.

    Attributes:
        dims: dimension after the reduction.
        shrinkage: share of the identity that is mixed into the covariance before the scaling.
    """

    dims: AtLeast1 = 128
    shrinkage: Below1 = 0.0


@dataclass(frozen=True)
class WithinClassWhitening(Part):
    """Transform the embedding so that its scatter within classes is the identity.

    Attributes:
        shrinkage: share of the identity that is mixed into the scatter matrix.
    """

    shrinkage: Below1 = 0.1


@dataclass(frozen=True)
class Lda(Part):
    """Linear discriminant analysis.

    Attributes:
        shrinkage: share of the identity that is mixed into the scatter matrix.
        dims: dimension after the reduction; 0 means one less than the number of classes.
    """

    shrinkage: Below1 = 0.03
    dims: Count = 0


@dataclass(frozen=True)
class EncoderDecoder(Part):
    """Train a small network that reduces the embedding and keeps its neighbours.

    Attributes:
        dims: dimension after the reduction.
        neighbours: nearest neighbours of an image that the reduction has to keep.
    """

    dims: AtLeast1 = 64
    neighbours: AtLeast1 = 10


@dataclass(frozen=True)
class Chosen(Part):
    """Choose the reduction on the dev split: the best of several, or none.

    With held-out classes as dev split, it is chosen for classes that are not in training; with
    folds or given queries, for new photographs of the trained classes.

    Attributes:
        kinds: kinds that are tried, each with several settings; () tries all.
    """

    kinds: tuple[Literal["Pca", "PcaWhitening", "WithinClassWhitening", "Lda"], ...] = ()


Reduction = Pca | PcaWhitening | WithinClassWhitening | Lda | EncoderDecoder | Chosen


@dataclass(frozen=True)
class TestTime(Part):
    """Embed copies of an image together with it.

    Each copy takes the time of one more image; one of twice the size takes four times as long.

    Attributes:
        copies: names in `features.query_copies.COPIES`, such as "mirror".
        scales: sizes of further copies, relative to the input size; each size also has the
            `copies`. The image file is decoded again for each size.
        join: "mean" of the unit vectors, or "concatenation" of the means of each size.
        queries_only: embed the gallery images without copies.
    """

    copies: tuple[str, ...] = ()
    scales: tuple[Positive, ...] = ()
    join: Literal["mean", "concatenation"] = "mean"
    queries_only: bool = False

    def _check(self) -> None:
        twice = [name for name in self.copies if self.copies.count(name) > 1]
        require(
            not twice,
            f"copies: {''.join(twice[:1])} is named twice, so it would count twice in the mean "
            "(TestTime.copies, --copies, --query_copies). Name it once.",
        )
        if self.join == "concatenation":
            require(
                bool(set(self.scales) - {1.0}),
                'TestTime.join="concatenation" concatenates the embeddings of several sizes: name '
                "another size in scales, such as [1.5]. (Copies of one size are averaged.)",
            )
            require(
                not self.queries_only,
                "TestTime.queries_only: concatenated embeddings of queries would be longer than "
                'those of the gallery. Use join="mean", or queries_only=false.',
            )


@dataclass(frozen=True)
class About(Part):
    """Description of a recipe for its users, shown by `mandoo recipes`.

    Attributes:
        summary: one sentence: what is trained.
        source: paper or system that the recipe reproduces.
        command: command that trains it.
        cost: time that it needs.
        expected: figures to expect, with data set and settings.
    """

    summary: str = ""
    source: str = ""
    command: str = ""
    cost: str = ""
    expected: str = ""
