"""The records of a model: trunk, heads and what heads are made of. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from delf_ext.config import require
from delf_ext.recipes.part import Part, one_of

# --- trunk --------------------------------------------------------------------------------------------------------

FROZEN_SOURCES = ("onnx", "features")  # embeddings come from a file: nothing in them can be trained
SOURCES = ("slim", "keras", "zoo", "lite", *FROZEN_SOURCES)


@dataclass(frozen=True)
class Trunk(Part):
    """A convolutional network up to one end point.

    source: which library builds it, one of SOURCES. end_point: its feature map, such as "block4"; "" is its last one.
    layout: where a ResNet v1 has its strides; "auto" asks the manifest of the weights. weights: "" when they are
    given at run time. weight_decay: L2 penalty on the trunk's weights, added to the loss. batch_norm: "training" moves
    the stored statistics, by 1 - batch_norm_decay a step; "inference" uses and keeps them. frozen: parameter groups
    that are not trained, such as "trunk" or "trunk/block1".
    """

    name: str = "resnet_v1_50"
    source: str = "slim"
    end_point: str = "block4"
    layout: str = "auto"
    weights: str = ""
    weight_decay: float = 0.0
    batch_norm: str = "training"
    batch_norm_decay: float = 0.997
    frozen: tuple[str, ...] = ()

    def check(self) -> None:
        require(
            self.source in SOURCES,
            f"Trunk.source must be {one_of(SOURCES)}. Received {self.source!r}.",
        )
        modes = ("training", "inference")
        require(
            self.batch_norm in modes,
            f"Trunk.batch_norm must be {one_of(modes)}. Received {self.batch_norm!r}.",
        )
        decay = self.batch_norm_decay
        require(
            0 <= decay < 1,
            f"Trunk.batch_norm_decay must be at least 0 and below 1. Received {decay}.",
        )
        require(
            self.weight_decay >= 0,
            f"Trunk.weight_decay must not be negative. Received {self.weight_decay}.",
        )
        partly = bool(self.frozen) and not self.is_frozen
        require(
            not partly or self.batch_norm == "inference",
            'Trunk.frozen names blocks, so Trunk.batch_norm must be "inference": their statistics would still move.',
        )

    @property
    def is_frozen(self) -> bool:
        """Whether no weight of the trunk is trained."""
        return "trunk" in self.frozen or self.source in FROZEN_SOURCES


# --- feature map -> feature map -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SelfAttention(Part):
    """Attention between all positions of a map (SAGAN); its weight starts at 0."""


@dataclass(frozen=True)
class SqueezeExcitation(Part):
    """A weight per channel, from the channel means."""

    reduction: int = 16


@dataclass(frozen=True)
class BatchErasing(Part):
    """One region of the map, the same for a whole batch, set to zero in training. Shares are of the map's sides."""

    height_share: float = 0.3
    width_share: float = 1.0

    def check(self) -> None:
        for name in ("height_share", "width_share"):
            share = getattr(self, name)
            require(
                0 < share <= 1,
                f"BatchErasing.{name} must be above 0 and at most 1. Received {share}.",
            )


@dataclass(frozen=True)
class AttentionMasks(Part):
    """`count` masks over one map; the head then gives `count` embeddings (ABE)."""

    count: int = 8


MapPart = SelfAttention | SqueezeExcitation | BatchErasing | AttentionMasks

# --- feature map -> vector ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Average(Part):
    """Mean over positions."""


@dataclass(frozen=True)
class Gem(Part):
    """Generalized mean with exponent p over positions."""

    p: float = 3.0
    trainable: bool = False

    def check(self) -> None:
        require(self.p > 0, f"Gem.p must be above 0. Received {self.p}.")


@dataclass(frozen=True)
class FeatureNorm(Part):
    """Sum over positions, weighted by the length of each position's vector: attention that needs no training."""


@dataclass(frozen=True)
class DelfAttention(Part):
    """Weights from DELF's attention; a model has one, which all heads with this pooling share.

    normalized: mean of attention x unit vectors, else sum of attention x raw vectors.
    skip_connection: adds the unweighted sum.
    """

    normalized: bool = True
    skip_connection: bool = False


Pool = Average | Gem | FeatureNorm | DelfAttention

# --- vector -> vector ---------------------------------------------------------------------------------------------

ACTIVATIONS = ("", "relu", "prelu")
NORMALIZATIONS = ("", "batch", "layer")


@dataclass(frozen=True)
class Dense(Part):
    """Linear layer, then normalization, activation and dropout where they are named."""

    units: int
    activation: str = ""
    normalization: str = ""
    dropout: float = 0.0

    def check(self) -> None:
        require(self.units >= 1, f"Dense.units must be at least 1. Received {self.units}.")
        known = self.activation in ACTIVATIONS
        require(
            known, f"Dense.activation must be {one_of(ACTIVATIONS)}. Received {self.activation!r}."
        )
        known = self.normalization in NORMALIZATIONS
        require(
            known,
            f"Dense.normalization must be {one_of(NORMALIZATIONS)}. Received {self.normalization!r}.",
        )
        require(
            0 <= self.dropout < 1,
            f"Dense.dropout must be at least 0 and below 1. Received {self.dropout}.",
        )


@dataclass(frozen=True)
class LayerNorm(Part):
    """Each vector to mean 0 and variance 1; affine: then times a learned scale plus a learned offset."""

    affine: bool = False


NeckLayer = Dense | LayerNorm

# --- vector -> logits ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Linear(Part):
    """One linear layer with bias."""


@dataclass(frozen=True)
class Cosine(Part):
    """Cosine between the vector and one learned direction per class, -1..1."""


@dataclass(frozen=True)
class TreePath(Part):
    """One softmax per level of a label tree, given the parent."""


Classifier = Linear | Cosine | TreePath


@dataclass(frozen=True)
class Head(Part):
    """What turns the trunk's feature map into a vector and, with a classifier, into logits.

    maps: applied to the feature map in order. after: the end point where they are applied ("" = the trunk's last).
    stop_gradient: no gradient of this head reaches the trunk, the attention or the heads in `append`.
    append: heads whose logits are appended to the pooled vector.
    """

    name: str
    pool: Pool = Average()
    neck: tuple[NeckLayer, ...] = ()
    classifier: Classifier | None = None
    maps: tuple[MapPart, ...] = ()
    after: str = ""
    stop_gradient: bool = False
    append: tuple[str, ...] = ()

    def check(self) -> None:
        reserved = ("trunk", "attention")
        named = self.name.isidentifier() and self.name not in reserved
        require(
            named,
            f"Head.name must be a word other than {one_of(reserved)}. Received {self.name!r}.",
        )


@dataclass(frozen=True)
class Model(Part):
    """A trunk with its heads; the embedding is made of the unit vectors of the heads named in `embedding`."""

    trunk: Trunk = Trunk()
    heads: tuple[Head, ...] = (Head("main", classifier=Linear()),)
    embedding: tuple[str, ...] = ("main",)

    def check(self) -> None:
        names = [head.name for head in self.heads]
        require(
            len(set(names)) == len(names) > 0,
            f"Model.heads need names that differ. Received {names}.",
        )
        require(len(self.embedding) > 0, "Model.embedding must name at least one head.")
        for name in self.embedding:
            require(
                name in names, f"Model.embedding names head {name!r}. Heads: {', '.join(names)}."
            )
        for row, head in enumerate(self.heads):
            earlier = [other.name for other in self.heads[:row] if other.classifier is not None]
            for name in head.append:
                known = ", ".join(earlier) or "none"
                message = f"Head {head.name!r} appends the logits of {name!r}. Heads with logits before it: {known}."
                require(name in earlier, message)

    def head(self, name: str) -> Head | None:
        """Return the head of that name, or None."""
        return next((head for head in self.heads if head.name == name), None)
