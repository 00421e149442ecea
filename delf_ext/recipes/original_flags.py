"""The command-line flags of the 2018 original: a table of names, defaults and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from delf_ext.config import require
from delf_ext.recipes.part import coerced

Value = bool | int | float | str


class OriginalFlag(NamedTuple):
    """A flag of the original: its default, whose type it has, and the bounds of its value.

    path: where the value is in the recipe, for `--set`. low: the lowest value; above: all values are above it.
    """

    name: str
    default: Value
    help: str
    path: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    above: float | None = None
    below: float | None = None


RESNET_HELP = "trunk and end point: resnet_v1_50|101|152/block1..4, resnet_v2_50/block4, inception_v3/Mixed_7c, vgg_16/conv5"
FLAG_GROUPS: dict[str, tuple[OriginalFlag, ...]] = {
    "Network": (
        OriginalFlag(
            "image_size",
            224,
            "side of the square that a photograph is resized to, in pixels",
            "input.size_px",
            low=32,
        ),
        OriginalFlag("resnet_type", "resnet_v1_50/block4", RESNET_HELP, "model.trunk.end_point"),
        OriginalFlag(
            "layout",
            "auto",
            "where a ResNet v1 has its strides; auto: as the manifest of the weights says",
            "model.trunk.layout",
            ("auto", "slim", "keras", "v1.5"),
        ),
        OriginalFlag(
            "stop_gradient_sim",
            False,
            "stop gradients from the similarity head into trunk, attention and logits",
            "model.heads.similarity.stop_gradient",
        ),
        OriginalFlag(
            "skipcon_attn",
            False,
            "add the unweighted sum of features to the similarity head's input",
            "model.heads.similarity.pool.skip_connection",
        ),
        OriginalFlag(
            "logit_concat_sim",
            False,
            "append the logits to the similarity head's input",
            "model.heads.similarity.append",
        ),
    ),
    "Losses (any number together)": (
        OriginalFlag(
            "train_logits", False, "classification: softmax cross-entropy + squared error", "losses"
        ),
        OriginalFlag(
            "train_sim", False, "pairs: sigmoid cross-entropy on (cosine - 0.5) * 32", "losses"
        ),
        OriginalFlag("train_sim_dist", False, "pairs: squared error of the same sigmoid", "losses"),
        OriginalFlag(
            "train_max_neg", False, "push the most similar images of other classes away", "losses"
        ),
        OriginalFlag(
            "train_max_neg_topk",
            5,
            "how many of them per image",
            "losses.max_neg.loss.top_k",
            low=1,
        ),
        OriginalFlag("train_triplet", False, "batch-hard triplets (TensorFlow Addons)", "losses"),
        OriginalFlag(
            "margin",
            0.3,
            "of the triplets, on distances of unit vectors",
            "losses.triplet.loss.margin",
            above=0,
        ),
        *(
            OriginalFlag(
                f"{name}_weight",
                1.0,
                f"weight of --train_{name} in the sum",
                f"losses.{name}.weight",
                low=0,
            )
            for name in ("logits", "sim", "sim_dist", "max_neg", "triplet")
        ),
    ),
    "Training": (
        OriginalFlag("epochs", 200, "passes over the training images", "stages.0.epochs", low=1),
        OriginalFlag(
            "batch_size",
            64,
            "images per step; 32 where a verb only embeds",
            "sampling.batch_size",
            low=1,
        ),
        OriginalFlag(
            "images_per_class",
            0,
            "batches of P classes x K images; 0: K=4 for --train_triplet and --train_max_neg, else pairs",
            "sampling.images",
            low=0,
        ),
        OriginalFlag("lr", 1e-4, "Adam's learning rate", "optimizer.lr", above=0),
        OriginalFlag(
            "classifier_lr_factor",
            10.0,
            "learning rate of attention and classifier, times --lr",
            "optimizer.factors.attention.factor",
            above=0,
        ),
        OriginalFlag(
            "lr_schedule",
            "constant",
            "learning rate over the run",
            "stages.0.schedule",
            ("constant", "cosine"),
        ),
        OriginalFlag(
            "freeze_backbone",
            False,
            "train attention and heads on feature maps computed once (no augmentation)",
            "model.trunk.frozen",
        ),
        OriginalFlag(
            "freeze_batch_norm",
            False,
            "keep the trunk's stored batch statistics while training",
            "model.trunk.batch_norm",
        ),
        OriginalFlag(
            "batch_norm_decay",
            0.997,
            "how slowly the trunk's batch statistics follow; 0.9 suits runs of a few hundred steps",
            "model.trunk.batch_norm_decay",
            low=0,
            below=1,
        ),
        OriginalFlag(
            "weight_decay",
            0.0,
            "L2 penalty on the trunk's weights",
            "model.trunk.weight_decay",
            low=0,
        ),
        OriginalFlag(
            "augmentation",
            False,
            "switch the changes below on; alone: --crop and --fliplr",
            "input.augment",
        ),
        OriginalFlag(
            "crop", False, "with --augmentation: a random part, sides 70 % or more", "input.augment"
        ),
        OriginalFlag("fliplr", False, "with --augmentation: left and right", "input.augment"),
        OriginalFlag("flipud", False, "with --augmentation: upside down", "input.augment"),
        OriginalFlag("rotate", False, "with --augmentation: -45 to +45 degrees", "input.augment"),
        OriginalFlag("gausian", False, "with --augmentation: blur", "input.augment"),
        OriginalFlag("dropout", False, "with --augmentation: pixels go black", "input.augment"),
        OriginalFlag("noise", False, "with --augmentation: Gaussian noise", "input.augment"),
    ),
    "Validation": (
        OriginalFlag(
            "dev_percent",
            0.1,
            "share of the training classes held out to choose the best weights; 0: none",
            "validation.share",
            low=0,
            below=1,
        ),
        OriginalFlag(
            "dev_split",
            "block",
            "a contiguous block of classes, or random ones",
            "validation",
            ("block", "random"),
        ),
        OriginalFlag(
            "dev_querynum",
            300,
            "most query images of the dev split",
            "validation.max_queries",
            low=1,
        ),
        OriginalFlag(
            "dev_referencenum",
            20,
            "most gallery images per class of the dev split",
            "validation.gallery_per_class",
            low=1,
        ),
        OriginalFlag(
            "eval_every_steps",
            150,
            "steps between evaluations on the dev split",
            "validation.every_steps",
            low=1,
        ),
    ),
}
ORIGINAL_FLAGS = {flag.name: flag for group in FLAG_GROUPS.values() for flag in group}
"""Name of a flag -> its record."""


def checked_values(flags: Mapping[str, Value]) -> dict[str, Value]:
    """Return the value of every flag of the original, in the type of its default.

    Args:
        flags: name -> value. A missing flag gets its default; unknown names are ignored.

    Returns:
        Name -> value, in the order of the table.

    Raises:
        UsageError: a value has the wrong type or is out of range; the message names the flag.
    """
    values: dict[str, Value] = {
        name: coerced(flags.get(name, flag.default), type(flag.default), f"--{name}")
        for name, flag in ORIGINAL_FLAGS.items()
    }
    for name, flag in ORIGINAL_FLAGS.items():
        _require_in_range(flag, values[name])
    return values


def _require_in_range(flag: OriginalFlag, value: Value) -> None:
    received = f"Received {value}."
    if flag.choices:
        require(
            value in flag.choices, f"--{flag.name} must be {' or '.join(flag.choices)}. {received}"
        )
    if isinstance(value, str):
        return
    low, above, below = flag.low, flag.above, flag.below
    if low is not None and below is not None:
        fits = low <= value < below
        require(fits, f"--{flag.name} must be at least {low:g} and below {below:g}. {received}")
    elif low is not None:
        require(value >= low, f"--{flag.name} must be at least {low:g}. {received}")
    elif above is not None:
        require(value > above, f"--{flag.name} must be above {above:g}. {received}")
