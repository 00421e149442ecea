"""Define the loss records of a recipe. They use the standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from delf_ext.config import require
from delf_ext.recipes.part import AtLeast1, Below1, NotNegative, Part, Positive, Range, snake_case

# Of the largest angle: a larger margin would be one on the other side.
MarginRad = Annotated[float, Range(low=0, below=math.pi)]
# float32 holds exp(1 / 0.001) as a logarithm, but no gradients of a smaller one.
Temperature = Annotated[float, Range(low=0.001, high=1000)]


@dataclass(frozen=True)
class Loss(Part):
    """Base of the losses. Its class variables say what a loss needs; they are not settings.

    Attributes:
        reads: input from the head: "embedding" (unit vector), "logits", or "parts" (the several
            embeddings of a head with AttentionMasks).
        pairs: True if the loss compares images (0, 1), (2, 3), ... of a batch.
        compares: True if a batch needs several images of one class.
        cosines: True if the logits must be cosines.
        mixes: True if each image is judged by itself, so that a mixed image can have two labels.
    """

    is_base: ClassVar[bool] = True
    reads: ClassVar[str] = "embedding"
    pairs: ClassVar[bool] = False
    compares: ClassVar[bool] = True
    cosines: ClassVar[bool] = False
    mixes: ClassVar[bool] = False


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """Softmax cross-entropy of the class logits.

    Attributes:
        label_smoothing: share of the target that is spread over all classes, 0 to below 1
            (Szegedy et al. 2016).
        squared_error: add the squared error of the softmax, as the 2018 original does.
    """

    reads: ClassVar[str] = "logits"
    compares: ClassVar[bool] = False
    mixes: ClassVar[bool] = True
    label_smoothing: Below1 = 0.0
    squared_error: bool = False


@dataclass(frozen=True)
class PairSimilarity(Loss):
    """Binary cross-entropy: do two images show one class? The logit is (cosine - offset) * scale.

    Attributes:
        scale: factor of the cosine.
        offset: cosine at which both answers are equally probable.
    """

    pairs: ClassVar[bool] = True
    scale: Positive = 32.0
    offset: float = 0.5


@dataclass(frozen=True)
class PairSquaredError(Loss):
    """Squared error of the probability that PairSimilarity predicts.

    Attributes:
        scale: factor of the cosine.
        offset: cosine at which both answers are equally probable.
    """

    pairs: ClassVar[bool] = True
    scale: Positive = 32.0
    offset: float = 0.5


@dataclass(frozen=True)
class HardestNegatives(Loss):
    """Push the most similar images of other classes away.

    Attributes:
        top_k: number of such images for each image of the batch.
        scale: factor of the cosine, as in PairSimilarity.
        offset: cosine at which the predicted probability is 0.5.
    """

    top_k: AtLeast1 = 5
    scale: Positive = 32.0
    offset: float = 0.5


@dataclass(frozen=True)
class Triplet(Loss):
    """Triplet loss on Euclidean distances of unit vectors (Hermans et al., arXiv:1703.07737).

    Attributes:
        margin: a negative must be farther away than a positive by this distance.
        mining: "batch_hard" uses the farthest positive and the nearest negative of each image;
            "semi_hard" uses all positives, each with the nearest negative that is farther away
            (Schroff et al., arXiv:1503.03832).
    """

    margin: Positive = 0.3
    mining: Literal["batch_hard", "semi_hard"] = "batch_hard"


@dataclass(frozen=True)
class Contrastive(Loss):
    """Contrastive loss on Euclidean distances of unit vectors (Hadsell et al., CVPR 2006).

    Attributes:
        margin: images of different classes are pushed apart up to this distance.
    """

    margin: Annotated[float, Range(above=0, high=2)] = 1.0


@dataclass(frozen=True)
class SupervisedContrastive(Loss):
    """Softmax over the other images of the batch (Khosla et al., arXiv:2004.11362).

    Attributes:
        temperature: the cosines are divided by it.
    """

    temperature: Temperature = 0.1


@dataclass(frozen=True)
class MultiSimilarity(Loss):
    """Weigh pairs by three kinds of similarity (Wang et al., arXiv:1904.06627).

    Attributes:
        positive_scale: alpha of the paper, of pairs of one class.
        negative_scale: beta of the paper, of pairs of two classes.
        offset: lambda of the paper, a cosine; the authors' code has 0.5.
        mining_margin: epsilon of the paper; a larger one uses more pairs.
    """

    positive_scale: Positive = 2.0
    negative_scale: Positive = 50.0
    offset: float = 0.5
    mining_margin: NotNegative = 0.1


@dataclass(frozen=True)
class ProxyAnchor(Loss):
    """Compare each class direction with all images of the batch (Kim et al., arXiv:2003.13911).

    Attributes:
        scale: alpha of the paper, factor of the cosines.
        margin: delta of the paper, on the cosines.
    """

    reads: ClassVar[str] = "logits"
    compares: ClassVar[bool] = False
    cosines: ClassVar[bool] = True
    scale: Positive = 32.0
    margin: Annotated[float, Range(low=0, below=2)] = 0.1


@dataclass(frozen=True)
class NormSoftmax(Loss):
    """Softmax cross-entropy of cosines (Zhai and Wu, arXiv:1811.12649).

    Attributes:
        temperature: the cosines are divided by it: 0.05 is a scale of 20.
        label_smoothing: as in SoftmaxCrossEntropy.
    """

    reads: ClassVar[str] = "logits"
    compares: ClassVar[bool] = False
    cosines: ClassVar[bool] = True
    mixes: ClassVar[bool] = True
    temperature: Temperature = 0.05
    label_smoothing: Below1 = 0.0


@dataclass(frozen=True)
class CosFace(Loss):
    """Softmax cross-entropy of cosines with a margin on the cosine (Wang, arXiv:1801.09414).

    Attributes:
        scale: factor of the cosines.
        margin: number that is subtracted from the cosine of the true class.
        label_smoothing: as in SoftmaxCrossEntropy.
    """

    reads: ClassVar[str] = "logits"
    compares: ClassVar[bool] = False
    cosines: ClassVar[bool] = True
    mixes: ClassVar[bool] = True
    scale: Positive = 45.0
    margin: Annotated[float, Range(low=0, below=2)] = 0.35
    label_smoothing: Below1 = 0.0


@dataclass(frozen=True)
class ArcFace(Loss):
    """Softmax cross-entropy of cosines with an angular margin (Deng et al., arXiv:1801.07698).

    Attributes:
        scale: factor of the cosines.
        margin_rad: angle in radians that is added to the angle of the true class.
        class_weights: "" weights all classes equally; "log" weights a class with n training images
            by 1 / log(1 + n), with a mean of 1 over the classes.
        label_smoothing: as in SoftmaxCrossEntropy.
        adaptive_power: above 0, the margin of a class with n training images is a n^(-power) + b:
            `margin_rad` for the rarest class, `min_margin_rad` for the most frequent one (Ha et
            al., arXiv:2010.05350, with power 0.25). 0: all classes have `margin_rad`.
        min_margin_rad: smallest margin in radians, if `adaptive_power` is above 0.
    """

    reads: ClassVar[str] = "logits"
    compares: ClassVar[bool] = False
    cosines: ClassVar[bool] = True
    mixes: ClassVar[bool] = True
    scale: Positive = 45.0
    margin_rad: MarginRad = 0.4
    class_weights: Literal["", "log"] = ""
    label_smoothing: Below1 = 0.0
    adaptive_power: Annotated[float, Range(low=0, high=10)] = 0.0
    min_margin_rad: MarginRad = 0.05

    def _check(self) -> None:
        require(
            not self.adaptive_power or self.min_margin_rad <= self.margin_rad,
            "ArcFace.min_margin_rad must not be above margin_rad. "
            f"Received {self.min_margin_rad:g} and {self.margin_rad:g}.",
        )


@dataclass(frozen=True)
class NPair(Loss):
    """Softmax over the dot products with one positive of each class (Sohn, NeurIPS 2016).

    Attributes:
        l2: weight of the penalty on the length of the embeddings.
    """

    l2: NotNegative = 0.02


@dataclass(frozen=True)
class Angular(Loss):
    """Limit the angle at the negative of a triplet (Wang et al., arXiv:1708.01682).

    Attributes:
        bound: squared tangent of the largest angle.
    """

    bound: Positive = 1.0


@dataclass(frozen=True)
class Divergence(Loss):
    """Make the embeddings of a head with AttentionMasks differ (Kim et al., arXiv:1804.00382).

    Attributes:
        margin: margin of the hinge on the distance of two embeddings.
    """

    reads: ClassVar[str] = "parts"
    compares: ClassVar[bool] = False
    margin: NotNegative = 1.0


@dataclass(frozen=True)
class TreeConsistency(Loss):
    """Penalize a label that is more probable than its parent in the label tree.

    Attributes:
        margin: margin of the hinge on the difference of the two probabilities.
    """

    reads: ClassVar[str] = "logits"
    compares: ClassVar[bool] = False
    margin: NotNegative = 0.1


@dataclass(frozen=True)
class LossTerm(Part):
    """One loss on one head, with its weight in the sum.

    Attributes:
        loss: the loss.
        head: name of the head.
        weight: factor of the loss in the sum.
        name: name in logs and in `--set` paths; "" means the class name in snake case.
    """

    loss: Loss
    head: str = "main"
    weight: NotNegative = 1.0
    name: str = ""

    @property
    def shown_name(self) -> str:
        """Name of the term, or the class name of its loss in snake case, such as "arc_face"."""
        return self.name or snake_case(type(self.loss).__name__)
