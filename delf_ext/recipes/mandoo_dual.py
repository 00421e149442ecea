"""The dual-head ResNet-50 of the NAVER AI Hackathon 2018, and the original's flags.

ORIGINAL_FLAGS is the table of the flags; `from_flags` is the translation of their values to a recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from delf_ext.config import UsageError, require
from delf_ext.recipes import schema
from delf_ext.recipes.part import coerced
from delf_ext.recipes.schema import Head, LossTerm, Model, Recipe

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
ORIGINAL_FLAGS: dict[str, tuple[OriginalFlag, ...]] = {
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
FLAGS = {flag.name: flag for group in ORIGINAL_FLAGS.values() for flag in group}

AUGMENTATIONS: dict[str, schema.Augmentation] = {
    "crop": schema.Crop(),
    "fliplr": schema.MirrorLeftRight(),
    "flipud": schema.MirrorTopBottom(),
    "rotate": schema.Rotate(),
    "gausian": schema.Blur(),
    "dropout": schema.BlackPixels(),
    "noise": schema.Noise(),
}
COMPARING = ("sim", "sim_dist", "max_neg", "triplet")


def from_flags(flags: Mapping[str, Value]) -> Recipe:
    """Translate the original's flags to a recipe.

    Args:
        flags: name -> value. A flag that is missing has its default; a name that is not the original's is ignored.

    Returns:
        The recipe named "mandoo_dual".

    Raises:
        UsageError: naming the flag whose value has the wrong type, is out of range or does not fit the others.
    """
    values: dict[str, Value] = {
        name: coerced(flags.get(name, flag.default), type(flag.default), f"--{name}")
        for name, flag in FLAGS.items()
    }
    for name, flag in FLAGS.items():
        _require_in_range(flag, values[name])
    losses = _losses(values)
    require(
        bool(losses),
        "nothing to train: pass at least one of --train_logits --train_sim --train_sim_dist --train_max_neg "
        "--train_triplet, or a --recipe.",
    )
    name, _, end_point = str(values["resnet_type"]).partition("/")
    trunk = schema.Trunk(
        name=name,
        end_point=end_point,
        layout=str(values["layout"]),
        weight_decay=float(values["weight_decay"]),
        batch_norm="inference" if values["freeze_batch_norm"] else "training",
        batch_norm_decay=float(values["batch_norm_decay"]),
        frozen=("trunk",) if values["freeze_backbone"] else (),
    )
    require(
        any(term.head == "logits" for term in losses)
        or not values["stop_gradient_sim"]
        or trunk.is_frozen,
        "--stop_gradient_sim keeps the similarity head from training the trunk, and nothing else would: "
        "add --train_logits, or --freeze_backbone to keep the trunk as it is.",
    )
    factor = float(values["classifier_lr_factor"])
    faster = ("attention", "classifier") if values["train_logits"] else ("attention",)
    cosine = values["lr_schedule"] == "cosine"
    schedule: schema.Schedule = schema.CosineDecay() if cosine else schema.Constant()
    return Recipe(
        name="mandoo_dual",
        model=_model(trunk, values),
        losses=losses,
        optimizer=schema.Adam(
            lr=float(values["lr"]),
            factors=tuple(schema.RateFactor(group, factor) for group in faster),
        ),
        stages=(schema.Stage(int(values["epochs"]), schedule),),
        input=schema.Input(int(values["image_size"]), _augmentations(values)),
        sampling=_sampling(values),
        validation=_validation(values),
        about=ABOUT,
    )


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


def _losses(values: Mapping[str, Value]) -> tuple[LossTerm, ...]:
    losses: dict[str, schema.Loss] = {
        "logits": schema.SoftmaxCrossEntropy(squared_error=True),
        "sim": schema.PairSimilarity(),
        "sim_dist": schema.PairSquaredError(),
        "max_neg": schema.HardestNegatives(top_k=int(values["train_max_neg_topk"])),
        "triplet": schema.Triplet(margin=float(values["margin"])),
    }
    return tuple(
        LossTerm(
            loss,
            "logits" if name == "logits" else "similarity",
            float(values[f"{name}_weight"]),
            name,
        )
        for name, loss in losses.items()
        if values[f"train_{name}"]
    )


def _model(trunk: schema.Trunk, values: Mapping[str, Value]) -> Model:
    """Without a similarity loss the embedding is the attention-weighted sum of features itself."""
    heads: list[Head] = []
    if values["train_logits"]:
        heads.append(Head("logits", schema.DelfAttention(), classifier=schema.Linear()))
    if not any(values[f"train_{name}"] for name in COMPARING):
        heads.append(Head("pooled", schema.DelfAttention(normalized=False)))
        return Model(trunk, tuple(heads), ("pooled",))
    if values["logit_concat_sim"] and not values["train_logits"]:
        raise UsageError("--logit_concat_sim appends the class logits: it needs --train_logits.")
    similarity = Head(
        "similarity",
        schema.DelfAttention(normalized=False, skip_connection=bool(values["skipcon_attn"])),
        neck=(schema.Dense(1024, "relu"), schema.Dense(2048)),
        stop_gradient=bool(values["stop_gradient_sim"]),
        append=("logits",) if values["logit_concat_sim"] else (),
    )
    return Model(trunk, (*heads, similarity), ("similarity",))


def _augmentations(values: Mapping[str, Value]) -> tuple[schema.Augmentation, ...]:
    chosen = [name for name in AUGMENTATIONS if values[name]]
    if chosen and not values["augmentation"]:
        raise UsageError(f"--{chosen[0]} works with --augmentation; pass both.")
    names = chosen or (["crop", "fliplr"] if values["augmentation"] else [])
    return tuple(AUGMENTATIONS[name] for name in names)


def _sampling(values: Mapping[str, Value]) -> schema.Sampling:
    """P x K where the losses look for hard examples, pairs where they compare, else shuffled."""
    batch_size = int(values["batch_size"])
    compared = [name for name in COMPARING if values[f"train_{name}"]]
    if compared and (batch_size < 4 or batch_size % 2):
        raise UsageError(
            f"--train_{compared[-1]} compares images of a batch: --batch_size must be even and at least 4. Received {batch_size}."
        )
    hard = values["train_max_neg"] or values["train_triplet"]
    per_class = int(values["images_per_class"]) or (4 if hard else 0)
    if not per_class:
        return schema.Pairs(batch_size) if compared else schema.Shuffled(batch_size)
    if per_class % 2 or batch_size % per_class or batch_size == per_class:
        raise UsageError(
            f"--images_per_class must be even and divide --batch_size={batch_size} into two classes or more. "
            f"Received {per_class}."
        )
    return schema.PxK(batch_size // per_class, per_class)


def _validation(values: Mapping[str, Value]) -> schema.Validation | None:
    if not values["dev_percent"]:
        return None
    kind = schema.ClassBlock if values["dev_split"] == "block" else schema.RandomClasses
    return kind(
        every_steps=int(values["eval_every_steps"]),
        share=float(values["dev_percent"]),
        max_queries=int(values["dev_querynum"]),
        gallery_per_class=int(values["dev_referencenum"]),
    )


ABOUT = schema.About(
    summary="ResNet-50 with a classification head and, behind a stop-gradient, a similarity head.",
    source="NAVER AI Hackathon 2018, image retrieval challenge",
    command="mandoo --train_logits --train_sim --stop_gradient_sim --pretrained_model=resnet_v1_50.ckpt",
    cost="200 epochs at 224 px; the run prints what an epoch takes here",
    expected=(
        "Grocery Store, val <- train, weights resnet_v1_50_pqf, with --freeze_batch_norm --augmentation --epochs=8 "
        "--batch_size=32 --lr_schedule=cosine --eval_every_steps=75: mAP .556 to .572, R@1 .710 to .733 (two runs)"
    ),
)
RECIPE = from_flags({"train_logits": True, "train_sim": True, "stop_gradient_sim": True})
