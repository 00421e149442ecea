"""The records of losses. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from delf_ext.config import require
from delf_ext.recipes.part import Part, one_of, snake_case


@dataclass(frozen=True)
class Loss(Part):
    """Base of the losses.

    reads: what a loss needs of its head: "embedding" (its unit vector), "logits" or "parts" (several embeddings).
    pairs: it looks at the pairs (0, 1), (2, 3), ... of a batch. compares: it needs images of one class in a batch.
    cosines: its logits must be cosines.
    """

    is_base: ClassVar[bool] = True
    reads: ClassVar[str] = "embedding"
    pairs: ClassVar[bool] = False
    compares: ClassVar[bool] = True
    cosines: ClassVar[bool] = False


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """squared_error: adds the squared error of the softmax, as the original does."""

    reads: ClassVar[str] = "logits"
    compares: ClassVar[bool] = False
    label_smoothing: float = 0.0
    squared_error: bool = False

    def check(self) -> None:
        share = self.label_smoothing
        require(
            0 <= share < 1,
            f"SoftmaxCrossEntropy.label_smoothing must be at least 0 and below 1. Received {share}.",
        )


@dataclass(frozen=True)
class PairSimilarity(Loss):
    """Sigmoid cross-entropy of (cosine - offset) * scale on "same class"."""

    pairs: ClassVar[bool] = True
    scale: float = 32.0
    offset: float = 0.5


@dataclass(frozen=True)
class PairSquaredError(Loss):
    """Squared error of the same sigmoid."""

    pairs: ClassVar[bool] = True
    scale: float = 32.0
    offset: float = 0.5


@dataclass(frozen=True)
class HardestNegatives(Loss):
    """Pushes the `top_k` most similar images of other classes away."""

    top_k: int = 5
    scale: float = 32.0
    offset: float = 0.5

    def check(self) -> None:
        require(
            self.top_k >= 1, f"HardestNegatives.top_k must be at least 1. Received {self.top_k}."
        )


@dataclass(frozen=True)
class Triplet(Loss):
    """margin: on Euclidean distances of unit vectors. mining: "batch_hard" or "semi_hard"."""

    margin: float = 0.3
    mining: str = "batch_hard"

    def check(self) -> None:
        require(self.margin > 0, f"Triplet.margin must be above 0. Received {self.margin}.")
        known = ("batch_hard", "semi_hard")
        require(
            self.mining in known,
            f"Triplet.mining must be {one_of(known)}. Received {self.mining!r}.",
        )


@dataclass(frozen=True)
class NormSoftmax(Loss):
    """Softmax of cosine logits divided by `temperature`."""

    reads: ClassVar[str] = "logits"
    compares: ClassVar[bool] = False
    cosines: ClassVar[bool] = True
    temperature: float = 0.05

    def check(self) -> None:
        require(
            self.temperature > 0,
            f"NormSoftmax.temperature must be above 0. Received {self.temperature}.",
        )


@dataclass(frozen=True)
class ArcFace(Loss):
    """Softmax with an angular margin on cosine logits (Deng et al., arXiv:1801.07698). class_weights: "" or "log"."""

    reads: ClassVar[str] = "logits"
    compares: ClassVar[bool] = False
    cosines: ClassVar[bool] = True
    scale: float = 45.0
    margin_rad: float = 0.4
    class_weights: str = ""

    def check(self) -> None:
        require(
            0 <= self.margin_rad < 3.14159,
            f"ArcFace.margin_rad must be at least 0 and below pi. Received {self.margin_rad}.",
        )


@dataclass(frozen=True)
class NPair(Loss):
    """Softmax over the products with one positive of each class (Sohn 2016). l2: penalty on the embeddings' length."""

    l2: float = 0.02


@dataclass(frozen=True)
class Angular(Loss):
    """Bounds the angle at the negative of a triplet (Wang et al., arXiv:1708.01682). bound: its squared tangent."""

    bound: float = 1.0


@dataclass(frozen=True)
class Divergence(Loss):
    """Pushes the embeddings of one head with AttentionMasks apart (Kim et al., arXiv:1804.00382)."""

    reads: ClassVar[str] = "parts"
    compares: ClassVar[bool] = False
    margin: float = 1.0


@dataclass(frozen=True)
class TreeConsistency(Loss):
    """Hinge on a child that is more probable than its parent."""

    reads: ClassVar[str] = "logits"
    compares: ClassVar[bool] = False
    margin: float = 0.1


@dataclass(frozen=True)
class LossTerm(Part):
    """A loss on one head, and its weight in the sum. name: as it is shown; "" is the loss's own."""

    loss: Loss
    head: str = "main"
    weight: float = 1.0
    name: str = ""

    def check(self) -> None:
        require(
            self.weight >= 0,
            f"the weight of loss {self.shown_name} must not be negative. Received {self.weight}.",
        )

    @property
    def shown_name(self) -> str:
        """Return `name`, else the loss's class name in lower case, such as "arc_face"."""
        return self.name or snake_case(type(self.loss).__name__)
