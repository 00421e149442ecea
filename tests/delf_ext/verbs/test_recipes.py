"""Test `mandoo recipes`, --recipe and --set from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import dual_main
from delf_ext.recipes import best_here, codec, mandoo_dual, mandoo_triplet, schema
from delf_ext.recipes.codec import with_settings
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS
from delf_ext.recipes.registry import RECIPES, overview
from delf_ext.verbs.hints import LISTS, hint, settings_for
from delf_ext.verbs.training_flags import recipe_from_flags

# --- mandoo recipes


def test_recipes_lists_every_system_with_its_command(capsys) -> None:
    dual_main.main(["recipes"])
    printed = capsys.readouterr().out
    for name, about in overview().items():
        assert f"\n{name}\n  {about.summary}\n" in f"\n{printed}"
        for what in ("source", "command", "cost", "expected"):
            assert f"  {what:<9} {getattr(about, what)}\n" in printed


@pytest.mark.parametrize("name", RECIPES)
def test_a_printed_recipe_is_read_back(name: str, tmp_path: Path, capsys, flags_of) -> None:
    dual_main.main(["recipes", f"--recipe={name}"])
    (tmp_path / "mine.json").write_text(capsys.readouterr().out)
    assert recipe_from_flags(flags_of(f"--recipe={tmp_path}/mine.json")) == RECIPES[name]


def test_settings_are_applied_in_order_and_printed(tmp_path: Path, capsys, flags_of) -> None:
    settings = ["optimizer.lr=1e-3", "model.heads.logits.pool=Gem", "model.heads.logits.pool.p=4"]
    arguments = [word for setting in settings for word in ("--set", setting)]
    dual_main.main(["recipes", "--recipe=mandoo_dual", *arguments])
    stored = json.loads(capsys.readouterr().out)
    assert stored["optimizer"]["lr"] == 1e-3
    assert stored["model"]["heads"][0]["pool"]["p"] == 4.0
    assert codec.recipe_from_json(stored) == with_settings(mandoo_dual.RECIPE, settings)
    flags = flags_of("--recipe=mandoo_dual", *arguments)
    assert recipe_from_flags(flags) == with_settings(mandoo_dual.RECIPE, settings)


def test_set_without_recipe_is_refused(refused) -> None:
    error = refused(2, "recipes", "--set", "optimizer.lr=1")
    assert error.startswith("usage error: --set changes a recipe: name it with --recipe.")


def test_set_overrides_a_flag_of_the_original(flags_of) -> None:
    flags = flags_of("--train_logits", "--lr=1e-3", "--set", "optimizer.lr=1e-2")
    assert recipe_from_flags(flags).optimizer.lr == 1e-2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "optimizer.speed=1",
            "--set: optimizer (Adam) has no 'speed'. Known: lr, factors, weight_decay, decays.",
        ),
        ("optimzer.lr=1", "--set: the recipe (Recipe) has no 'optimzer'. Known: name, model,"),
        (
            "model.heads.main.pool=Gem",
            "--set: model.heads has no 'main'. Known: logits, similarity.",
        ),
        (
            "optimizer.lr=fast",
            "--set optimizer.lr=fast: Adam.lr must be a number. Received 'fast'.",
        ),
        (
            "optimizer.lr=-1",
            "--set optimizer.lr=-1: Adam.lr must be at least 1e-12 and at most 1000.",
        ),
        (
            "optimizer.lr",
            "--set takes PATH=VALUE, such as optimizer.lr=1e-3. Received 'optimizer.lr'.",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["recipes", "train"])
def test_a_bad_setting_is_named_with_the_known_ones(
    verb: str, setting: str, message: str, refused
) -> None:
    error = refused(2, verb, "--recipe=mandoo_dual", "--set", setting)
    assert error.startswith(f"usage error: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "unknown recipe 'mine.json'. Known: best_here, mandoo_dual"),
        ("{", "mine.json: not readable as JSON ("),
        (
            "[]",
            'mine.json: must be an object with "type": "Recipe" or "EnsembleRecipe". Received',
        ),
        (
            '{"type": "Adam", "speed": 1}',
            "mine.json: unknown key speed in Adam. Known: lr, factors, weight_decay, decays.",
        ),
        ('{"type": "Recipe", "name": "a"}', "mine.json: Recipe needs model, losses."),
    ],
)
def test_a_bad_recipe_file_is_named(
    content: str | None, message: str, tmp_path: Path, monkeypatch, refused
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "mine.json").write_text(content)
    assert refused(2, "--recipe=mine.json").startswith(f"usage error: {message}")


def test_the_baseline_is_refused_as_a_recipe_with_its_own_command(refused) -> None:
    error = refused(2, "--recipe=keras_baseline")
    assert error.startswith(
        "usage error: keras_baseline has its own training command: python -m baseline_keras"
    )


# --- a flag of the 2018 original together with --recipe


@pytest.mark.parametrize(
    ("flag", "instead"),
    [
        ("--lr=1e-3", "Pass --set optimizer.lr=0.001 instead."),
        ("--image_size=64", "Pass --set input.size_px=64 instead."),
        ("--batch_size=8", "Pass --set sampling.batch_size=8 instead."),
        ("--epochs=3", "Pass --set stages.0.epochs=3 instead."),
        ("--lr_schedule=cosine", "Pass --set stages.0.schedule=CosineDecay instead."),
        ("--freeze_backbone", "Pass --set model.trunk.frozen=trunk instead."),
        ("--dev_percent=0", "Pass --set validation=None instead."),
        (
            "--resnet_type=resnet_v1_101/block3",
            "Pass --set model.trunk.name=resnet_v1_101 --set model.trunk.end_point=block3 instead.",
        ),
        (
            "--train_triplet",
            "In a recipe it is part of losses: write "
            "`mandoo recipes --recipe=mandoo_dual > mine.json`, change it there and pass "
            "--recipe=mine.json.",
        ),
        (
            "--margin=0.5",
            "In a recipe it is part of losses.triplet.loss.margin: write `mandoo recipes",
        ),
        (
            "--augmentation",
            "In a recipe it is part of input.augment: write `mandoo recipes --recipe=mandoo_dual",
        ),
    ],
)
def test_a_flag_of_the_original_with_a_recipe_says_what_to_pass_instead(
    flag: str, instead: str, refused
) -> None:
    error = refused(2, "--recipe=mandoo_dual", flag)
    name = flag.partition("=")[0]
    assert error.startswith(f"usage error: {name} cannot be combined with --recipe. {instead}")


OTHER_VALUES: dict[str, Any] = {
    "image_size": 96,
    "resnet_type": "resnet_v1_101/block3",
    "layout": "v1.5",
    "train_max_neg_topk": 3,
    "margin": 0.7,
    "epochs": 3,
    "batch_size": 32,
    "lr": 1e-3,
    "classifier_lr_factor": 2.0,
    "lr_schedule": "cosine",
    "batch_norm_decay": 0.9,
    "weight_decay": 1e-4,
    "dev_percent": 0.0,
    "dev_split": "random",
    "dev_querynum": 7,
    "dev_referencenum": 8,
    "eval_every_steps": 9,
    **{f"{name}_weight": 0.5 for name in ("logits", "sim", "sim_dist", "max_neg", "triplet")},
}
LOSSES = ("train_logits", "train_sim", "train_sim_dist", "train_max_neg", "train_triplet")


@pytest.mark.parametrize("name", ORIGINAL_FLAGS)
def test_suggested_settings_give_the_recipe_that_the_flag_gives(name: str) -> None:
    flag = ORIGINAL_FLAGS[name]
    value = OTHER_VALUES.get(name, not flag.default)
    assert value != flag.default
    settings = settings_for(name, value)
    if not settings:
        assert flag.path in (*LISTS, "sampling.images")
        return
    base: dict[str, Any] = {loss: True for loss in LOSSES}
    if name == "batch_size":
        # The other losses need batches of P x K images, which have no setting for their size.
        base = {"train_logits": True, "train_sim": True}
    before = mandoo_dual.from_flags(base)
    after = mandoo_dual.from_flags({**base, name: value})
    assert with_settings(before, settings) == after != before


def test_no_setting_is_suggested_that_the_recipe_does_not_have(refused) -> None:
    # Batches of P x K images have no setting for their size.
    assert isinstance(mandoo_triplet.RECIPE.sampling, schema.PxK)
    error = refused(2, "--recipe=mandoo_triplet", "--batch_size=8")
    assert "In a recipe it is part of sampling.batch_size: write `mandoo recipes" in error


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 5), ("lr_schedule", "cosine"), ("image_size", 96)]
)
def test_no_setting_of_one_stage_is_suggested_for_a_recipe_with_several(name: str, value: Any):
    assert "In a recipe it is part of " in hint(name, value, best_here.RECIPE)


def test_a_suggested_value_with_brackets_is_quoted(refused) -> None:
    error = refused(2, "--recipe=mandoo_dual", "--nofreeze_backbone")
    assert re.search(r"--set 'model\.trunk\.frozen=\[\]'", error)
