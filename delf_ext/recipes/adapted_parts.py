"""Define the record of a model with a head: its base model, and the reduction that was chosen.

`mandoo adapt` writes it as recipe.json. It uses the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from delf_ext.config import require
from delf_ext.recipes.evaluation_parts import About, Lda, Pca, PcaWhitening, TestTime
from delf_ext.recipes.evaluation_parts import WithinClassWhitening as WithinClass
from delf_ext.recipes.model_parts import Pool, Trunk
from delf_ext.recipes.part import Part, SidePx
from delf_ext.recipes.schema import Concatenate, Join

Question = Literal["seen_classes", "unseen_classes"]
LinearReduction = Pca | PcaWhitening | WithinClass | Lda


@dataclass(frozen=True)
class Base(Part):
    """Base of the records that say where a base model is."""

    is_base: ClassVar[bool] = True


@dataclass(frozen=True)
class RunBase(Base):
    """Run directory.

    Attributes:
        path: absolute path.
        relative: path from the run of the head, for folders that were moved together; "" for none.
    """

    path: str
    relative: str = ""


@dataclass(frozen=True)
class CheckpointBase(Base):
    """Pretrained trunk without further training.

    Attributes:
        path: absolute path of a checkpoint, or the name of known weights.
        relative: path from the run of the head; "" for none.
        trunk: network and end point.
        pool: from feature map to embedding.
        size_px: side of the input images in pixels.
    """

    path: str
    trunk: Trunk
    pool: Pool
    size_px: SidePx
    relative: str = ""


@dataclass(frozen=True)
class OnnxBase(Base):
    """ONNX network.

    Attributes:
        path: absolute path of FILE.onnx.
        relative: path from the run of the head; "" for none.
    """

    path: str
    relative: str = ""


@dataclass(frozen=True)
class EnsembleBase(Base):
    """Several models whose embeddings are joined.

    Attributes:
        members: where the models are.
        join: how their embeddings are joined.
    """

    members: tuple[RunBase | CheckpointBase | OnnxBase, ...]
    join: Join = Concatenate()

    def _check(self) -> None:
        require(bool(self.members), "EnsembleBase.members is empty.")


@dataclass(frozen=True)
class AdaptedRecipe(Part):
    """A base model and a head that was fitted on its embeddings.

    Attributes:
        name: shown to the user.
        base: where the base model is.
        base_digest: digest of the base model; another one is refused.
        reduction: what was fitted; None if no reduction was better than none.
        question: what the reduction was chosen for: new photographs of the labelled classes, or
            new classes.
        test_time: copies of an image that are joined before the projection; None = those of each
            member of an ensemble.
        ranking: chain of re-rankers that `evaluate` and `infer` use if none is named; "" means
            none.
        about: description for users.
    """

    name: str
    base: RunBase | CheckpointBase | OnnxBase | EnsembleBase
    base_digest: str
    reduction: LinearReduction | None
    question: Question
    test_time: TestTime | None = TestTime()
    ranking: str = ""
    about: About = About()
