"""Define the flags of the 2018 original: defaults, bounds, and their places in a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from delf_ext.recipes.part import (
    AtLeast1,
    BatchSize,
    Below1,
    Count,
    LearningRate,
    NotNegative,
    Positive,
    SidePx,
    choices_of,
    coerced,
)


class OriginalFlag(NamedTuple):
    """Flag of the 2018 original.

    Attributes:
        name: name without the dashes.
        default: default value; a value must have the same type.
        path: path of the value in a recipe, for `--set`.
        help: text for `--help`.
        kind: type and allowed values, as in a field of a recipe; None is the type of `default`.
    """

    name: str
    default: Any
    path: str
    help: str
    kind: Any = None

    @property
    def choices(self) -> tuple[str, ...]:
        """All allowed values; () if other than these are allowed."""
        return choices_of(self.kind)


LOSSES = ("logits", "sim", "sim_dist", "max_neg", "triplet")
"""The losses of the 2018 original: --train_NAME adds one, --NAME_weight weighs it."""

NETWORK = (
    OriginalFlag(
        "image_size",
        224,
        "input.size_px",
        "side of the square that an image is resized to, in pixels",
        SidePx,
    ),
    OriginalFlag(
        "resnet_type",
        "resnet_v1_50/block4",
        "model.trunk.end_point",
        "trunk and end point: resnet_v1_50|101|152/block1..4, resnet_v2_50/block4, "
        "inception_v3/Mixed_7c, vgg_16/conv5, lite0|1|2/block1|2|3|5|7|head, or one of Keras or "
        "the extra `zoo`, such as densenet161 or efficientnet_b1/block5 (all: docs/weights.md); "
        "weights of PyTorch need no --resnet_type",
    ),
    OriginalFlag(
        "layout",
        "auto",
        "model.trunk.layout",
        "padding, strides and input of the trunk, if it has several; auto: those of the weights",
        Literal["auto", "slim", "keras", "v1.5", "torchvision", "timm", "timm_tf"],
    ),
    OriginalFlag(
        "stop_gradient_sim",
        False,
        "model.heads.similarity.stop_gradient",
        "stop gradients from the similarity head into trunk, attention and logits",
    ),
    OriginalFlag(
        "skipcon_attn",
        False,
        "model.heads.similarity.pool.skip_connection",
        "add the unweighted sum of features to the similarity head's input",
    ),
    OriginalFlag(
        "logit_concat_sim",
        False,
        "model.heads.similarity.append",
        "append the logits to the similarity head's input",
    ),
)
LOSS_FLAGS = (
    OriginalFlag(
        "train_logits", False, "losses", "classification: softmax cross-entropy + squared error"
    ),
    OriginalFlag(
        "train_sim", False, "losses", "pairs: sigmoid cross-entropy on (cosine - 0.5) * 32"
    ),
    OriginalFlag("train_sim_dist", False, "losses", "pairs: squared error of the same sigmoid"),
    OriginalFlag(
        "train_max_neg", False, "losses", "push the most similar images of other classes away"
    ),
    OriginalFlag(
        "train_max_neg_topk",
        5,
        "losses.max_neg.loss.top_k",
        "number of such images for each image, for --train_max_neg",
        AtLeast1,
    ),
    OriginalFlag("train_triplet", False, "losses", "batch-hard triplets (TensorFlow Addons)"),
    OriginalFlag(
        "margin",
        0.3,
        "losses.triplet.loss.margin",
        "margin of the triplets, on distances of unit vectors",
        Positive,
    ),
    *(
        OriginalFlag(
            f"{name}_weight",
            1.0,
            f"losses.{name}.weight",
            f"weight of --train_{name} in the sum of the losses",
            NotNegative,
        )
        for name in LOSSES
    ),
)
TRAINING = (
    OriginalFlag("epochs", 200, "stages.0.epochs", "passes over the training images", AtLeast1),
    OriginalFlag("batch_size", 64, "sampling.batch_size", "images in a batch", BatchSize),
    OriginalFlag(
        "images_per_class",
        0,
        "sampling.images",
        "images of each class in a batch; 0: 4 for --train_triplet and --train_max_neg, "
        "otherwise pairs",
        Count,
    ),
    OriginalFlag("lr", 1e-4, "optimizer.lr", "learning rate of Adam", LearningRate),
    OriginalFlag(
        "classifier_lr_factor",
        10.0,
        "optimizer.factors.attention.factor",
        "factor of --lr for the attention and the classifier",
        Positive,
    ),
    OriginalFlag(
        "lr_schedule",
        "constant",
        "stages.0.schedule",
        "learning rate over the run",
        Literal["constant", "cosine"],
    ),
    OriginalFlag(
        "freeze_backbone",
        False,
        "model.trunk.frozen",
        "train attention and heads on feature maps computed once (no augmentation)",
    ),
    OriginalFlag(
        "freeze_batch_norm",
        False,
        "model.trunk.batch_norm",
        "keep the trunk's stored batch statistics while training",
    ),
    OriginalFlag(
        "batch_norm_decay",
        0.997,
        "model.trunk.batch_norm_decay",
        "share of the trunk's batch statistics that a step keeps; use 0.9 for a few hundred steps",
        Below1,
    ),
    OriginalFlag(
        "weight_decay",
        0.0,
        "model.trunk.weight_decay",
        "L2 penalty on the trunk's weights",
        NotNegative,
    ),
    OriginalFlag(
        "augmentation",
        False,
        "input.augment",
        "switch augmentation on; without the flags below: --crop and --fliplr",
    ),
    OriginalFlag(
        "crop",
        False,
        "input.augment",
        "with --augmentation: a random part, sides at least 70 % of the image's",
    ),
    OriginalFlag("fliplr", False, "input.augment", "with --augmentation: exchange left and right"),
    OriginalFlag("flipud", False, "input.augment", "with --augmentation: exchange top and bottom"),
    OriginalFlag(
        "rotate", False, "input.augment", "with --augmentation: rotate by -45 to +45 degrees"
    ),
    OriginalFlag("gausian", False, "input.augment", "with --augmentation: blur (2018 spelling)"),
    OriginalFlag(
        "dropout", False, "input.augment", "with --augmentation: set single pixels to black"
    ),
    OriginalFlag("noise", False, "input.augment", "with --augmentation: add Gaussian noise"),
)
VALIDATION = (
    OriginalFlag(
        "dev_percent",
        0.1,
        "validation.share",
        "share of the training classes held out to choose the best weights; 0: none",
        Below1,
    ),
    OriginalFlag(
        "dev_split",
        "block",
        "validation",
        "classes held out: a contiguous block, or random ones",
        Literal["block", "random"],
    ),
    OriginalFlag(
        "dev_querynum",
        300,
        "validation.max_queries",
        "largest number of query images of the dev split",
        AtLeast1,
    ),
    OriginalFlag(
        "dev_referencenum",
        20,
        "validation.gallery_per_class",
        "largest number of gallery images per class of the dev split",
        AtLeast1,
    ),
    OriginalFlag(
        "eval_every_steps",
        150,
        "validation.every_steps",
        "steps between evaluations on the dev split",
        AtLeast1,
    ),
)
FLAG_GROUPS = {
    "Network": NETWORK,
    "Losses (any number together)": LOSS_FLAGS,
    "Training": TRAINING,
    "Validation": VALIDATION,
}
"""Title of a group in `--help` -> its flags."""
ORIGINAL_FLAGS = {flag.name: flag for flags in FLAG_GROUPS.values() for flag in flags}
"""Name of a flag -> its record."""


def checked_values(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every flag of the 2018 original.

    Args:
        flags: name -> value. A missing flag gets its default; unknown names are ignored.

    Returns:
        Name -> value in the type of the flag's default, in the order of the table.

    Raises:
        UsageError: a value has the wrong type or is out of range.
    """
    return {
        name: coerced(flags.get(name, flag.default), flag.kind or type(flag.default), f"--{name}")
        for name, flag in ORIGINAL_FLAGS.items()
    }
