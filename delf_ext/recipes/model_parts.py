"""Define the model records of a recipe: trunk and heads. They use the standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from delf_ext.config import require
from delf_ext.recipes.part import AtLeast1, Below1, NotNegative, Part, Positive, Range, Share

# --- the trunk

# Their embeddings come from a file, so no weight of them can be trained.
FROZEN_SOURCES = ("onnx", "features")
Source = Literal["slim", "keras", "zoo", "lite", "onnx", "features"]


@dataclass(frozen=True)
class Trunk(Part):
    """Pretrained network that computes the feature map.

    Attributes:
        name: name of the network, such as "resnet_v1_50".
        source: library that builds it, one of `Source`.
        end_point: feature map that the heads get, such as "block4"; "" means the last one.
        layout: what differs between the sources of weights of one network (padding, place of the
            strides, input): "auto" for the layout of the weights; of a ResNet v1 of TF-Slim
            "slim", "keras" or "v1.5"; of a network of Keras "keras", "torchvision", "timm" or
            "timm_tf".
        weights: path of the pretrained weights; "" if they are named when training starts.
        weight_decay: factor of the L2 penalty on the trunk's weights, which is added to the loss.
        batch_norm: "training" normalizes with statistics of the batch and updates the stored ones;
            "inference" uses the stored ones and keeps them.
        batch_norm_decay: share of the stored statistics that an update keeps, 0 to below 1.
        frozen: parameter groups that are not trained, such as "trunk" or "trunk/block1".
    """

    name: str = "resnet_v1_50"
    source: Source = "slim"
    end_point: str = "block4"
    layout: str = "auto"
    weights: str = ""
    weight_decay: NotNegative = 0.0
    batch_norm: Literal["training", "inference"] = "training"
    batch_norm_decay: Below1 = 0.997
    frozen: tuple[str, ...] = ()

    def _check(self) -> None:
        require(
            self.layout == "auto" or self.source in ("slim", "keras"),
            "only a ResNet v1 of TF-Slim and the networks of Keras have layouts: leave --layout "
            f"(Trunk.layout) out. Received {self.layout!r} with the trunk {self.name!r}.",
        )
        partly = bool(self.frozen) and not self.is_frozen
        require(
            not partly or self.batch_norm == "inference",
            'Trunk.frozen names blocks, so Trunk.batch_norm must be "inference": '
            "training would still change their statistics.",
        )

    @property
    def is_frozen(self) -> bool:
        """True if no weight of the trunk is trained."""
        return "trunk" in self.frozen or self.source in FROZEN_SOURCES


# --- from feature map to feature map


@dataclass(frozen=True)
class SelfAttention(Part):
    """Attention between all positions of a map, with a weight that starts at 0 (SAGAN)."""


@dataclass(frozen=True)
class SqueezeExcitation(Part):
    """Weight of each channel, computed from the means of the channels (arXiv:1709.01507).

    Attributes:
        reduction: the hidden layer has 1/reduction of the channels.
    """

    reduction: AtLeast1 = 16


@dataclass(frozen=True)
class BatchErasing(Part):
    """In training, set one region of the map to zero, the same region in the whole batch.

    Attributes:
        height_share: height of the region as a share of the map's height, above 0 to 1.
        width_share: width of the region as a share of the map's width, above 0 to 1.
    """

    height_share: Share = 0.3
    width_share: Share = 1.0


@dataclass(frozen=True)
class AttentionMasks(Part):
    """Several attention masks over one map; the head gives one embedding per mask.

    Source: Kim et al. (ABE), arXiv:1804.00382.

    Attributes:
        count: number of masks.
    """

    count: AtLeast1 = 8


MapPart = SelfAttention | SqueezeExcitation | BatchErasing | AttentionMasks

# --- from feature map to vector


@dataclass(frozen=True)
class Average(Part):
    """Mean over the positions of the map."""


@dataclass(frozen=True)
class Maximum(Part):
    """Maximum over the positions of the map."""


@dataclass(frozen=True)
class Gem(Part):
    """Generalized mean over the positions of the map (Radenovic et al., arXiv:1711.02512).

    Attributes:
        p: exponent, above 0; 1 is the mean, a large value approaches the maximum.
        trainable: train the exponent, starting at `p`.
    """

    p: Positive = 3.0
    trainable: bool = False


@dataclass(frozen=True)
class Rmac(Part):
    """Sum over regions of the unit vector of each region's maxima (Tolias, arXiv:1511.05879).

    Attributes:
        levels: number of region sizes: the whole shorter side of the map, then 2/3 of it, 2/4, ...
    """

    levels: Annotated[int, Range(low=1, high=10)] = 3


@dataclass(frozen=True)
class FeatureNorm(Part):
    """Sum over positions, weighted by the length of each vector: attention without training."""


@dataclass(frozen=True)
class DelfAttention(Part):
    """Sum over positions, weighted by the attention of DELF (arXiv:1612.06321).

    All heads of a model with this pooling share one attention layer.

    Attributes:
        normalized: True gives the mean of attention times unit vectors; False gives the sum of
            attention times raw vectors.
        skip_connection: add the sum of the vectors without weights.
    """

    normalized: bool = True
    skip_connection: bool = False


Pool = Average | Maximum | Gem | Rmac | FeatureNorm | DelfAttention

# --- from vector to vector


@dataclass(frozen=True)
class Dense(Part):
    """Linear layer, then optional normalization, activation and dropout, in this order.

    Attributes:
        units: dimension of the output.
        activation: function of each value; "" means none.
        normalization: over the batch or over each vector; "" means none.
        dropout: share of values that are set to 0 in training, 0 to below 1.
    """

    units: AtLeast1
    activation: Literal["", "relu", "prelu"] = ""
    normalization: Literal["", "batch", "layer"] = ""
    dropout: Below1 = 0.0


@dataclass(frozen=True)
class LayerNorm(Part):
    """Normalize each vector to mean 0 and variance 1.

    Attributes:
        affine: then multiply by a learned scale and add a learned offset.
    """

    affine: bool = False


@dataclass(frozen=True)
class Dropout(Part):
    """In training, set a share of the values to 0 and scale the others up (Srivastava et al. 2014).

    Attributes:
        share: share of values that are set to 0, 0 to below 1.
    """

    share: Below1 = 0.3


NeckLayer = Dense | LayerNorm | Dropout

# --- from vector to logits


@dataclass(frozen=True)
class Linear(Part):
    """Linear layer with bias."""


@dataclass(frozen=True)
class Cosine(Part):
    """Cosine between the vector and a learned direction of each class, -1 to 1."""


@dataclass(frozen=True)
class TreePath(Part):
    """One softmax for each level of a label tree, given the parent label."""


Classifier = Linear | Cosine | TreePath


@dataclass(frozen=True)
class Head(Part):
    """Layers from the trunk's feature map to a vector and, with a classifier, to logits.

    Attributes:
        name: name of the head, a word other than "trunk" and "attention".
        pool: from feature map to vector.
        neck: layers after the pooling, in order.
        classifier: from vector to class logits; None: the head has no logits.
        maps: layers before the pooling, in order.
        after: end point of the trunk that the head gets; "" means `Trunk.end_point`.
        stop_gradient: stop this head's gradient before it reaches the trunk, the attention and
            the heads in `append`.
        append: names of earlier heads whose logits are appended to the pooled vector.
    """

    name: str
    pool: Pool = Average()
    neck: tuple[NeckLayer, ...] = ()
    classifier: Classifier | None = None
    maps: tuple[MapPart, ...] = ()
    after: str = ""
    stop_gradient: bool = False
    append: tuple[str, ...] = ()

    def _check(self) -> None:
        require(
            self.name.isidentifier() and self.name not in ("trunk", "attention"),
            f"Head.name must be a word other than trunk or attention. Received {self.name!r}.",
        )
        require(
            not self.after or not isinstance(self.pool, DelfAttention),
            f"head {self.name!r}: DelfAttention weighs the map of Trunk.end_point, so "
            f"Head.after must be empty. Received {self.after!r}.",
        )


@dataclass(frozen=True)
class Model(Part):
    """A trunk and its heads.

    Attributes:
        trunk: pretrained network.
        heads: the heads; each has a different name.
        embedding: names of the heads whose unit vectors, concatenated, are the embedding.
    """

    trunk: Trunk = Trunk()
    heads: tuple[Head, ...] = (Head("main", classifier=Linear()),)
    embedding: tuple[str, ...] = ("main",)

    def _check(self) -> None:
        names = [head.name for head in self.heads]
        require(
            len(set(names)) == len(names) > 0,
            f"Model.heads must be heads with different names. Received {names}.",
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
                require(
                    name in earlier,
                    f"Head {head.name!r} appends the logits of {name!r}. "
                    f"Heads with logits before it: {known}.",
                )

    def head(self, name: str) -> Head | None:
        """Return the head with this name, or None."""
        return next((head for head in self.heads if head.name == name), None)
