"""Suggest settings of a recipe in place of flags of the 2018 original.

For users who pass such a flag together with --recipe.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.recipes.codec import AnyRecipe, with_settings
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS
from delf_ext.recipes.trunk_names import trunk_named

RECIPE_VALUES: dict[str, dict[Any, str]] = {
    "freeze_backbone": {True: "trunk", False: "[]"},
    "freeze_batch_norm": {True: "inference", False: "training"},
    "logit_concat_sim": {True: "logits", False: "[]"},
    "lr_schedule": {"constant": "Constant", "cosine": "CosineDecay"},
    "dev_split": {"block": "ClassBlock", "random": "RandomClasses"},
}
"""Name of a flag -> its value -> the value in a recipe that means the same."""
# Flags that add or remove list entries, or whose value depends on others: no simple setting.
LISTS = ("losses", "input.augment")
WITHOUT_SETTING = ("images_per_class",)
# Each stage can have its own value.
OF_STAGES = ("epochs", "lr_schedule", "image_size")


def settings_for(name: str, value: Any) -> list[str]:
    """Return settings of a recipe that do the same as a flag of the 2018 original.

    Args:
        name: of the flag.
        value: of the flag.

    Returns:
        "PATH=VALUE", as --set takes them; empty if there are no simple ones.
    """
    path = ORIGINAL_FLAGS[name].path
    if path in LISTS or name in WITHOUT_SETTING:
        return []
    if name == "resnet_type":
        trunk = trunk_named(value)
        names = ("name", "end_point") if trunk.source == "slim" else ("source", "name", "end_point")
        return [f"model.trunk.{name}={getattr(trunk, name)}" for name in names]
    if name == "classifier_lr_factor":
        groups = ("attention", "classifier")
        return [f"optimizer.factors.{group}.factor={value}" for group in groups]
    if name == "dev_percent" and not value:
        return ["validation=None"]
    if name in RECIPE_VALUES:
        value = RECIPE_VALUES[name][value]
    return [f"{path}={value if isinstance(value, str) else json.dumps(value)}"]


def hint(name: str, value: Any, recipe: AnyRecipe) -> str:
    """Return what to pass in place of a flag of the 2018 original.

    Args:
        name: of the flag.
        value: of the flag.
        recipe: the recipe that is to be changed.

    Returns:
        A sentence: --set with settings that the recipe accepts, or how to edit the recipe.
    """
    settings = settings_for(name, value)
    if name in OF_STAGES and isinstance(recipe, schema.Recipe) and len(recipe.stages) > 1:
        settings = []
    try:
        with_settings(recipe, settings)
    except UsageError:
        settings = []
    if settings:
        words = [f"--set {shlex.quote(setting)}" for setting in settings]
        return f"Pass {' '.join(words)} instead."
    return (
        f"In a recipe it is part of {ORIGINAL_FLAGS[name].path}: write "
        f"`mandoo recipes --recipe={recipe.name} > mine.json`, change it there and pass "
        "--recipe=mine.json."
    )
