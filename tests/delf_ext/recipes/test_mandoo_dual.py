"""Test the translation of the original flags to recipes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.recipes.codec import with_settings
from delf_ext.recipes.mandoo_dual import RECIPE, from_flags
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS
from delf_ext.recipes.registry import RECIPES
from delf_ext.recipes.schema import Dense, LossTerm

LOGITS = {"train_logits": True}
NAMES = ("logits", "sim", "sim_dist", "max_neg", "triplet")


def error_message(**flags: Any) -> str:
    with pytest.raises(UsageError) as caught:
        from_flags(LOGITS | flags)
    return str(caught.value)


# --- translated flags


def test_default_flags_give_a_trunk_with_two_heads() -> None:
    """The values are those of the 2018 original."""
    attention = schema.DelfAttention(normalized=False)
    neck = (Dense(1024, "relu"), Dense(2048))
    heads = (
        schema.Head("logits", schema.DelfAttention(), classifier=schema.Linear()),
        schema.Head("similarity", attention, neck, stop_gradient=True),
    )
    factors = (schema.RateFactor("attention", 10.0), schema.RateFactor("classifier", 10.0))
    expected = schema.Recipe(
        name="mandoo_dual",
        model=schema.Model(schema.Trunk("resnet_v1_50"), heads, ("similarity",)),
        losses=(
            LossTerm(schema.SoftmaxCrossEntropy(squared_error=True), "logits", 1.0, "logits"),
            LossTerm(schema.PairSimilarity(32.0, 0.5), "similarity", 1.0, "sim"),
        ),
        optimizer=schema.Adam(1e-4, factors),
        stages=(schema.Stage(200, schema.Constant()),),
        input=schema.Input(224),
        sampling=schema.Pairs(64),
        validation=schema.ClassBlock(150, 0.1, 300, 20),
        about=RECIPE.about,
    )
    flags = {**LOGITS, "train_sim": True, "stop_gradient_sim": True}
    assert from_flags(flags) == expected == RECIPE


def test_losses_have_a_fixed_order_and_their_weights() -> None:
    flags = {f"train_{name}": True for name in reversed(NAMES)}
    weights = {f"{name}_weight": row + 0.5 for row, name in enumerate(NAMES)}
    recipe = from_flags({**flags, **weights, "train_max_neg_topk": 7, "margin": 2})
    terms = [(term.shown_name, term.head, term.weight) for term in recipe.losses]
    assert terms == [
        ("logits", "logits", 0.5),
        ("sim", "similarity", 1.5),
        ("sim_dist", "similarity", 2.5),
        ("max_neg", "similarity", 3.5),
        ("triplet", "similarity", 4.5),
    ]
    losses = [term.loss for term in recipe.losses]
    assert losses[2:] == [
        schema.PairSquaredError(),
        schema.HardestNegatives(7),
        schema.Triplet(2.0),
    ]


def test_without_similarity_loss_the_embedding_is_the_pooled_features() -> None:
    model = from_flags(LOGITS).model
    assert [head.name for head in model.heads] == ["logits", "pooled"]
    assert model.embedding == ("pooled",)
    assert model.heads[1] == schema.Head("pooled", schema.DelfAttention(normalized=False))


def test_without_classification_loss_only_attention_learns_faster() -> None:
    recipe = from_flags({"train_triplet": True})
    assert [head.name for head in recipe.model.heads] == ["similarity"]
    assert recipe.optimizer.factors == (schema.RateFactor("attention", 10.0),)


def test_switches_change_the_similarity_head() -> None:
    on = from_flags({**LOGITS, "train_sim": True, "skipcon_attn": True, "logit_concat_sim": True})
    head = on.model.head("similarity")
    assert head is not None and head.append == ("logits",) and not head.stop_gradient
    assert head.pool == schema.DelfAttention(normalized=False, skip_connection=True)


@pytest.mark.parametrize(
    ("flags", "sampling"),
    [
        ({"batch_size": 1}, schema.Shuffled(1)),
        ({"batch_size": 7}, schema.Shuffled(7)),
        ({"train_sim": True, "batch_size": 4}, schema.Pairs(4)),
        ({"train_sim_dist": True}, schema.Pairs(64)),
        ({"train_max_neg": True}, schema.PxK(16, 4)),
        ({"train_triplet": True, "train_sim": True}, schema.PxK(16, 4)),
        ({"train_triplet": True, "images_per_class": 8}, schema.PxK(8, 8)),
        ({"images_per_class": 2, "batch_size": 6}, schema.PxK(3, 2)),
    ],
)
def test_sampling_fits_the_losses(flags: dict[str, Any], sampling: schema.Sampling) -> None:
    assert from_flags(LOGITS | flags).sampling == sampling


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        ({}, ()),
        ({"augmentation": True}, (schema.Crop(), schema.MirrorLeftRight())),
        ({"augmentation": True, "flipud": True}, (schema.MirrorTopBottom(),)),
        (
            dict.fromkeys(("augmentation", "noise", "dropout", "gausian", "rotate"), True),
            (schema.Rotate(), schema.Blur(), schema.BlackPixels(), schema.Noise()),
        ),
    ],
)
def test_augmentation_flags_choose_the_changes(
    flags: dict[str, Any], changes: tuple[schema.Augmentation, ...]
) -> None:
    assert from_flags(LOGITS | flags).input.augment == changes


def test_dev_flags_choose_the_validation() -> None:
    bounds = {"dev_querynum": 5, "dev_referencenum": 2, "eval_every_steps": 3}
    assert from_flags(LOGITS | bounds).validation == schema.ClassBlock(3, 0.1, 5, 2)
    drawn = from_flags({**LOGITS, "dev_split": "random", "dev_percent": 0.5}).validation
    assert drawn == schema.RandomClasses(150, 0.5, 300, 20)
    assert from_flags({**LOGITS, "dev_percent": 0}).validation is None


def test_trunk_flags_fill_the_trunk_record() -> None:
    trunk = from_flags(
        {**LOGITS, "resnet_type": "resnet_v1_50/block2/unit_1/bottleneck_v1"},
    ).model.trunk
    assert (trunk.name, trunk.end_point) == ("resnet_v1_50", "block2/unit_1/bottleneck_v1")
    trunk = from_flags({**LOGITS, "resnet_type": "vgg_16", "layout": "slim"}).model.trunk
    assert (trunk.name, trunk.end_point, trunk.layout) == ("vgg_16", "", "slim")
    numbers = {"weight_decay": 0.5, "batch_norm_decay": 0.9}
    flags = {**LOGITS, **numbers, "freeze_batch_norm": True, "freeze_backbone": True}
    trunk = from_flags(flags).model.trunk
    assert (trunk.weight_decay, trunk.batch_norm_decay) == (0.5, 0.9)
    assert trunk.batch_norm == "inference" and trunk.is_frozen


def test_cosine_schedule() -> None:
    recipe = from_flags({**LOGITS, "lr_schedule": "cosine", "epochs": 3, "lr": 1})
    assert recipe.stages == (schema.Stage(3, schema.CosineDecay()),) and recipe.optimizer.lr == 1.0


def test_unknown_flags_are_ignored() -> None:
    assert from_flags({**LOGITS, "data": "photos", "run_dir": "x"}) == from_flags(LOGITS)


# --- errors

COMPARES = "compares images of a batch: --batch_size must be even and at least 4."
DIVIDES = "--images_per_class must be even and divide --batch_size=6 into at least two classes."


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"image_size": 31}, "--image_size must be at least 32 and at most 4096. Received 31."),
        (
            {"batch_norm_decay": 1.0},
            "--batch_norm_decay must be at least 0 and below 1. Received 1.0.",
        ),
        (
            {"batch_norm_decay": -0.1},
            "--batch_norm_decay must be at least 0 and below 1. Received -0.1.",
        ),
        ({"train_max_neg_topk": 0}, "--train_max_neg_topk must be at least 1. Received 0."),
        ({"margin": 0.0}, "--margin must be above 0. Received 0.0."),
        ({"epochs": 0}, "--epochs must be at least 1. Received 0."),
        ({"batch_size": -1}, "--batch_size must be at least 1 and at most 65536. Received -1."),
        ({"eval_every_steps": 0}, "--eval_every_steps must be at least 1. Received 0."),
        ({"dev_querynum": 0}, "--dev_querynum must be at least 1. Received 0."),
        ({"dev_referencenum": 0}, "--dev_referencenum must be at least 1. Received 0."),
        ({"lr": 0.0}, "--lr must be at least 1e-12 and at most 1000. Received 0.0."),
        ({"lr": float("nan")}, "--lr must be a number. Received nan."),
        ({"classifier_lr_factor": 0}, "--classifier_lr_factor must be above 0. Received 0.0."),
        ({"lr_schedule": "step"}, "--lr_schedule must be constant or cosine. Received 'step'."),
        (
            {"layout": "caffe"},
            "--layout must be auto, slim, keras, v1.5, torchvision, timm or timm_tf. "
            "Received 'caffe'.",
        ),
        ({"dev_split": "last"}, "--dev_split must be block or random. Received 'last'."),
        ({"dev_percent": 1.0}, "--dev_percent must be at least 0 and below 1. Received 1.0."),
        ({"dev_percent": -0.1}, "--dev_percent must be at least 0 and below 1. Received -0.1."),
        ({"weight_decay": -1.0}, "--weight_decay must be at least 0. Received -1.0."),
        ({"sim_weight": -1.0}, "--sim_weight must be at least 0. Received -1.0."),
        ({"images_per_class": -2}, "--images_per_class must be at least 0. Received -2."),
        (
            {"train_logits": False},
            "nothing to train: pass at least one of --train_logits --train_sim --train_sim_dist "
            "--train_max_neg --train_triplet, or a --recipe.",
        ),
        (
            {"train_sim": True, "batch_size": 2},
            f"--train_sim {COMPARES} Received 2.",
        ),
        (
            {"train_triplet": True, "batch_size": 7},
            f"--train_triplet {COMPARES} Received 7.",
        ),
        (
            {"images_per_class": 3, "batch_size": 6},
            f"{DIVIDES} Received 3.",
        ),
        (
            {"images_per_class": 4, "batch_size": 6},
            f"{DIVIDES} Received 4.",
        ),
        (
            {"images_per_class": 6, "batch_size": 6},
            f"{DIVIDES} Received 6.",
        ),
        ({"fliplr": True}, "--fliplr has no effect without --augmentation: pass both."),
        (
            {"logit_concat_sim": True, "train_logits": False, "train_sim": True},
            "--logit_concat_sim appends the class logits: it needs --train_logits.",
        ),
        (
            {"stop_gradient_sim": True, "train_logits": False, "train_sim": True},
            "--stop_gradient_sim keeps the similarity head from training the trunk, and no other "
            "loss trains it: add --train_logits, or pass --freeze_backbone to leave the trunk "
            "unchanged.",
        ),
        ({"lr": "fast"}, "--lr must be a number. Received 'fast'."),
        ({"epochs": 2.5}, "--epochs must be a whole number. Received 2.5."),
        ({"epochs": True}, "--epochs must be a whole number. Received True."),
        ({"train_sim": "yes"}, "--train_sim must be true or false. Received 'yes'."),
        ({"resnet_type": 50}, "--resnet_type must be a string. Received 50."),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_error_names_the_flag_with_the_bad_value(flags: dict[str, Any], message: str) -> None:
    assert error_message(**flags) == message


def test_smallest_allowed_values_are_accepted() -> None:
    least = {"image_size": 32, "batch_norm_decay": 0.0, "epochs": 1, "eval_every_steps": 1}
    recipe = from_flags({**LOGITS, **least, "batch_size": 1, "dev_percent": 0.0})
    assert (recipe.input.size_px, recipe.epochs, recipe.batch_size) == (32, 1, 1)
    frozen = {"stop_gradient_sim": True, "train_sim": True, "freeze_backbone": True}
    assert from_flags({**frozen, **LOGITS, "logits_weight": 0}).model.trunk.is_frozen


# --- random flags

RANDOM: dict[type, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.sampled_from([1, 2, 4, 8, 32, 64, 224]) | st.integers(),
    float: st.sampled_from([0.0, 0.1, 0.5, 1]) | st.floats() | st.integers(),
    str: st.text(max_size=5),
}
ANY = st.one_of(*RANDOM.values(), st.none(), st.just(10**400))
CHOICES = {
    name: st.sampled_from(flag.choices or [flag.default]) for name, flag in ORIGINAL_FLAGS.items()
}
SWITCHES = [name for name, flag in ORIGINAL_FLAGS.items() if isinstance(flag.default, bool)]
DRAWN = {name: RANDOM[type(flag.default)] | CHOICES[name] for name, flag in ORIGINAL_FLAGS.items()}


def assert_recipe_or_usage_error(flags: dict[str, Any]) -> None:
    given_flags = dict(flags)
    try:
        recipe = from_flags(flags)
    except UsageError as error:
        assert "\n" not in str(error)
        return
    finally:
        # from_flags must not change its argument. repr, because nan is not equal to itself.
        assert repr(flags) == repr(given_flags)
    assert from_flags(flags) == recipe and recipe.name == "mandoo_dual"


@given(flags=st.fixed_dictionaries({}, optional=DRAWN))
@example({"lr": 10**400, "train_logits": True})
@example({"sim_weight": float("inf"), "train_sim": True})
def test_random_flags_give_a_recipe_or_a_usage_error(flags: dict[str, Any]) -> None:
    assert_recipe_or_usage_error(flags)
    assert_recipe_or_usage_error({**flags, "train_logits": True})


@given(flags=st.dictionaries(st.sampled_from([*ORIGINAL_FLAGS]), ANY, max_size=4))
def test_values_of_wrong_types_give_a_recipe_or_a_usage_error(flags: dict[str, Any]) -> None:
    assert_recipe_or_usage_error({"train_logits": True, **flags})


@given(flags=st.fixed_dictionaries({name: st.booleans() for name in SWITCHES}))
def test_error_for_random_switches_names_a_flag(flags: dict[str, bool]) -> None:
    try:
        from_flags(flags)
    except UsageError as error:
        assert "--" in str(error)


# --- the table of flags


def has_path(recipe: schema.Recipe, path: str) -> bool:
    try:
        with_settings(recipe, [f"{path}=no such value"])
    except UsageError as error:
        return " has no " not in str(error)
    return True


def test_path_of_each_flag_exists_in_a_recipe() -> None:
    every = {f"train_{name}": True for name in NAMES}
    recipes = [from_flags(every), from_flags({**LOGITS, "train_sim": True})]
    for flag in ORIGINAL_FLAGS.values():
        assert any(has_path(recipe, flag.path) for recipe in recipes), flag.name


def test_default_of_each_flag_is_in_range() -> None:
    assert all(flag.name == name and flag.help for name, flag in ORIGINAL_FLAGS.items())
    assert from_flags(
        LOGITS | {name: flag.default for name, flag in ORIGINAL_FLAGS.items()} | LOGITS
    )


# --- variants of the recipe


def test_triplet_recipe_has_one_head_and_pxk_batches() -> None:
    recipe = RECIPES["mandoo_triplet"]
    assert [type(term.loss) for term in recipe.losses] == [schema.Triplet]
    assert recipe.sampling == schema.PxK(16, 4) and recipe.model.embedding == ("similarity",)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "mandoo_query_expansion",
            {
                "test_time": schema.TestTime(
                    ("mirror", "flip", "turn45", "turn315"),
                    queries_only=True,
                ),
            },
        ),
        ("mandoo_block3", {"model": with_settings(RECIPE.model, ["trunk.end_point=block3"])}),
    ],
)
def test_variant_differs_from_mandoo_dual_in_one_part(name: str, changes: dict[str, Any]) -> None:
    recipe = RECIPES[name]
    assert recipe == dataclasses.replace(RECIPE, name=name, about=recipe.about, **changes)
