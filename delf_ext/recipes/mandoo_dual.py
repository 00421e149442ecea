"""Define the recipe mandoo_dual, and translate the flags of the 2018 original to recipes."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from delf_ext.config import UsageError, require
from delf_ext.recipes import schema
from delf_ext.recipes.original_flags import checked_values
from delf_ext.recipes.schema import Head, LossTerm, Model, Recipe
from delf_ext.recipes.trunk_names import trunk_named

AUGMENTATIONS: dict[str, schema.Augmentation] = {
    "crop": schema.Crop(),
    "fliplr": schema.MirrorLeftRight(),
    "flipud": schema.MirrorTopBottom(),
    "rotate": schema.Rotate(),
    "gausian": schema.Blur(),
    "dropout": schema.BlackPixels(),
    "noise": schema.Noise(),
}
"""Name of a flag -> the augmentation that it adds."""


def from_flags(flags: Mapping[str, Any]) -> Recipe:
    """Translate flags of the 2018 original to a recipe.

    Args:
        flags: name -> value. A missing flag gets its default; unknown names are ignored.

    Returns:
        The recipe named "mandoo_dual".

    Raises:
        UsageError: a value has the wrong type, is out of range or does not fit the others.
    """
    values = SimpleNamespace(**checked_values(flags))
    losses = _losses(values)
    require(
        bool(losses),
        "nothing to train: pass at least one of --train_logits --train_sim --train_sim_dist "
        "--train_max_neg --train_triplet, or a --recipe.",
    )
    trunk = _trunk(values)
    require(
        values.train_logits or not values.stop_gradient_sim or trunk.is_frozen,
        "--stop_gradient_sim keeps the similarity head from training the trunk, and no other loss "
        "trains it: add --train_logits, or pass --freeze_backbone to leave the trunk unchanged.",
    )
    is_cosine = values.lr_schedule == "cosine"
    # The losses on the similarity head compare images.
    compared = [term.name for term in losses if term.head == "similarity"]
    return Recipe(
        name="mandoo_dual",
        model=_model(values, trunk, bool(compared)),
        losses=losses,
        optimizer=_optimizer(values),
        stages=(
            schema.Stage(values.epochs, schema.CosineDecay() if is_cosine else schema.Constant()),
        ),
        input=schema.Input(values.image_size, _augmentations(values)),
        sampling=_sampling(values, compared),
        validation=_validation(values),
        about=ABOUT,
    )


def _trunk(values: SimpleNamespace) -> schema.Trunk:
    settings = schema.Trunk(
        layout=values.layout,
        weight_decay=values.weight_decay,
        batch_norm="inference" if values.freeze_batch_norm else "training",
        batch_norm_decay=values.batch_norm_decay,
        frozen=("trunk",) if values.freeze_backbone else (),
    )
    return trunk_named(values.resnet_type, settings)


def _optimizer(values: SimpleNamespace) -> schema.Optimizer:
    groups = ("attention", "classifier") if values.train_logits else ("attention",)
    factors = [schema.RateFactor(group, values.classifier_lr_factor) for group in groups]
    return schema.Adam(lr=values.lr, factors=tuple(factors))


def _losses(values: SimpleNamespace) -> tuple[LossTerm, ...]:
    losses: dict[str, schema.Loss] = {
        "logits": schema.SoftmaxCrossEntropy(squared_error=True),
        "sim": schema.PairSimilarity(),
        "sim_dist": schema.PairSquaredError(),
        "max_neg": schema.HardestNegatives(top_k=values.train_max_neg_topk),
        "triplet": schema.Triplet(margin=values.margin),
    }
    terms = []
    for name, loss in losses.items():
        if getattr(values, f"train_{name}"):
            head = "logits" if name == "logits" else "similarity"
            terms.append(LossTerm(loss, head, getattr(values, f"{name}_weight"), name))
    return tuple(terms)


def _model(values: SimpleNamespace, trunk: schema.Trunk, has_similarity: bool) -> Model:
    """Return the model; without a similarity loss, the pooled features are the embedding."""
    heads: list[Head] = []
    if values.train_logits:
        heads.append(Head("logits", schema.DelfAttention(), classifier=schema.Linear()))
    if not has_similarity:
        heads.append(Head("pooled", schema.DelfAttention(normalized=False)))
        return Model(trunk, tuple(heads), ("pooled",))
    require(
        values.train_logits or not values.logit_concat_sim,
        "--logit_concat_sim appends the class logits: it needs --train_logits.",
    )
    similarity = Head(
        "similarity",
        schema.DelfAttention(normalized=False, skip_connection=values.skipcon_attn),
        neck=(schema.Dense(1024, "relu"), schema.Dense(2048)),
        stop_gradient=values.stop_gradient_sim,
        append=("logits",) if values.logit_concat_sim else (),
    )
    return Model(trunk, (*heads, similarity), ("similarity",))


def _augmentations(values: SimpleNamespace) -> tuple[schema.Augmentation, ...]:
    names = [name for name in AUGMENTATIONS if getattr(values, name)]
    if names and not values.augmentation:
        raise UsageError(f"--{names[0]} has no effect without --augmentation: pass both.")
    if values.augmentation:
        names = names or ["crop", "fliplr"]
    return tuple(AUGMENTATIONS[name] for name in names)


def _sampling(values: SimpleNamespace, compared: list[str]) -> schema.Sampling:
    """Return P x K batches for losses that need hard examples, pairs for other pair losses."""
    batch_size = values.batch_size
    if compared and (batch_size < 4 or batch_size % 2):
        raise UsageError(
            f"--train_{compared[-1]} compares images of a batch: "
            f"--batch_size must be even and at least 4. Received {batch_size}."
        )
    hard = values.train_max_neg or values.train_triplet
    per_class = values.images_per_class or (4 if hard else 0)
    if not per_class:
        return schema.Pairs(batch_size) if compared else schema.Shuffled(batch_size)
    if per_class % 2 or batch_size % per_class or batch_size == per_class:
        raise UsageError(
            f"--images_per_class must be even and divide --batch_size={batch_size} into at least "
            f"two classes. Received {per_class}."
        )
    return schema.PxK(batch_size // per_class, per_class)


def _validation(values: SimpleNamespace) -> schema.Validation | None:
    if not values.dev_percent:
        return None
    kind = schema.ClassBlock if values.dev_split == "block" else schema.RandomClasses
    return kind(
        every_steps=values.eval_every_steps,
        share=values.dev_percent,
        max_queries=values.dev_querynum,
        gallery_per_class=values.dev_referencenum,
    )


ABOUT = schema.About(
    summary="ResNet-50 with a classification head, and a similarity head behind a stop-gradient.",
    source="NAVER AI Hackathon 2018, image retrieval challenge",
    command=(
        "mandoo --train_logits --train_sim --stop_gradient_sim "
        "--pretrained_model=pre_trained/resnet_v1_50.ckpt"
    ),
    cost="200 epochs at 224 px; training prints the time of an epoch",
    expected=(
        "Grocery Store (queries: val, gallery: train), weights resnet_v1_50_pqf, with "
        "--freeze_batch_norm --augmentation --epochs=8 --batch_size=32 --lr_schedule=cosine "
        "--eval_every_steps=75: mAP 0.556 to 0.572, R@1 0.710 to 0.733 (two runs)"
    ),
)
RECIPE = from_flags({"train_logits": True, "train_sim": True, "stop_gradient_sim": True})
