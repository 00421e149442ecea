"""Define the recipe mandoo_dual, and translate the flags of the 2018 original to recipes."""

from __future__ import annotations

from collections.abc import Mapping

from delf_ext.config import UsageError, require
from delf_ext.recipes import schema
from delf_ext.recipes.original_flags import LOSSES, Value, checked_values
from delf_ext.recipes.schema import Head, LossTerm, Model, Recipe

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
SIMILARITY_LOSSES = tuple(name for name in LOSSES if name != "logits")
"""Losses on the similarity head."""


def from_flags(flags: Mapping[str, Value]) -> Recipe:
    """Translate flags of the 2018 original to a recipe.

    Args:
        flags: name -> value. A missing flag gets its default; unknown names are ignored.

    Returns:
        The recipe named "mandoo_dual".

    Raises:
        UsageError: a value has the wrong type, is out of range or does not fit the others.
    """
    values = checked_values(flags)
    losses = _losses(values)
    require(
        bool(losses),
        "nothing to train: pass at least one of --train_logits --train_sim --train_sim_dist "
        "--train_max_neg --train_triplet, or a --recipe.",
    )
    trunk = _trunk(values)
    require(
        any(term.head == "logits" for term in losses)
        or not values["stop_gradient_sim"]
        or trunk.is_frozen,
        "--stop_gradient_sim keeps the similarity head from training the trunk, and no other loss "
        "trains it: add --train_logits, or pass --freeze_backbone to leave the trunk unchanged.",
    )
    cosine = values["lr_schedule"] == "cosine"
    schedule: schema.Schedule = schema.CosineDecay() if cosine else schema.Constant()
    return Recipe(
        name="mandoo_dual",
        model=_model(trunk, values),
        losses=losses,
        optimizer=_optimizer(values),
        stages=(schema.Stage(int(values["epochs"]), schedule),),
        input=schema.Input(int(values["image_size"]), _augmentations(values)),
        sampling=_sampling(values),
        validation=_validation(values),
        about=ABOUT,
    )


def _trunk(values: Mapping[str, Value]) -> schema.Trunk:
    name, _, end_point = str(values["resnet_type"]).partition("/")
    return schema.Trunk(
        name=name,
        end_point=end_point,
        layout=str(values["layout"]),
        weight_decay=float(values["weight_decay"]),
        batch_norm="inference" if values["freeze_batch_norm"] else "training",
        batch_norm_decay=float(values["batch_norm_decay"]),
        frozen=("trunk",) if values["freeze_backbone"] else (),
    )


def _optimizer(values: Mapping[str, Value]) -> schema.Optimizer:
    factor = float(values["classifier_lr_factor"])
    groups = ("attention", "classifier") if values["train_logits"] else ("attention",)
    factors = tuple(schema.RateFactor(group, factor) for group in groups)
    return schema.Adam(lr=float(values["lr"]), factors=factors)


def _losses(values: Mapping[str, Value]) -> tuple[LossTerm, ...]:
    losses: dict[str, schema.Loss] = {
        "logits": schema.SoftmaxCrossEntropy(squared_error=True),
        "sim": schema.PairSimilarity(),
        "sim_dist": schema.PairSquaredError(),
        "max_neg": schema.HardestNegatives(top_k=int(values["train_max_neg_topk"])),
        "triplet": schema.Triplet(margin=float(values["margin"])),
    }
    terms = []
    for name, loss in losses.items():
        if values[f"train_{name}"]:
            head = "logits" if name == "logits" else "similarity"
            terms.append(LossTerm(loss, head, float(values[f"{name}_weight"]), name))
    return tuple(terms)


def _model(trunk: schema.Trunk, values: Mapping[str, Value]) -> Model:
    """Return the model; without a similarity loss, the pooled features are the embedding."""
    heads: list[Head] = []
    if values["train_logits"]:
        heads.append(Head("logits", schema.DelfAttention(), classifier=schema.Linear()))
    if not any(values[f"train_{name}"] for name in SIMILARITY_LOSSES):
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
        raise UsageError(f"--{chosen[0]} has no effect without --augmentation: pass both.")
    names = chosen or (["crop", "fliplr"] if values["augmentation"] else [])
    return tuple(AUGMENTATIONS[name] for name in names)


def _sampling(values: Mapping[str, Value]) -> schema.Sampling:
    """Return P x K batches for losses that need hard examples, pairs for other pair losses."""
    batch_size = int(values["batch_size"])
    compared = [name for name in SIMILARITY_LOSSES if values[f"train_{name}"]]
    if compared and (batch_size < 4 or batch_size % 2):
        raise UsageError(
            f"--train_{compared[-1]} compares images of a batch: "
            f"--batch_size must be even and at least 4. Received {batch_size}."
        )
    hard = values["train_max_neg"] or values["train_triplet"]
    per_class = int(values["images_per_class"]) or (4 if hard else 0)
    if not per_class:
        return schema.Pairs(batch_size) if compared else schema.Shuffled(batch_size)
    if per_class % 2 or batch_size % per_class or batch_size == per_class:
        raise UsageError(
            f"--images_per_class must be even and divide --batch_size={batch_size} into at least "
            f"two classes. Received {per_class}."
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
    summary="ResNet-50 with a classification head, and a similarity head behind a stop-gradient.",
    source="NAVER AI Hackathon 2018, image retrieval challenge",
    command=(
        "mandoo --train_logits --train_sim --stop_gradient_sim --pretrained_model=resnet_v1_50.ckpt"
    ),
    cost="200 epochs at 224 px; training prints the time of an epoch",
    expected=(
        "Grocery Store (queries: val, gallery: train), weights resnet_v1_50_pqf, with "
        "--freeze_batch_norm --augmentation --epochs=8 --batch_size=32 --lr_schedule=cosine "
        "--eval_every_steps=75: mAP .556 to .572, R@1 .710 to .733 (two runs)"
    ),
)
RECIPE = from_flags({"train_logits": True, "train_sim": True, "stop_gradient_sim": True})
