"""From a flag of the original to what does the same in a recipe: for users who pass it together with --recipe."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from delf_ext.config import UsageError
from delf_ext.recipes.codec import AnyRecipe, with_settings
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS

SCHEDULES = {"constant": "Constant", "cosine": "CosineDecay"}
SPLITS = {"block": "ClassBlock", "random": "RandomClasses"}
FACTOR = "optimizer.factors.{}.factor={}"
TRANSLATED: dict[str, Callable[[Any], list[str]]] = {
    "resnet_type": lambda name: [
        f"model.trunk.name={name.partition('/')[0]}",
        f"model.trunk.end_point={name.partition('/')[2]}",
    ],
    "freeze_backbone": lambda on: [f"model.trunk.frozen={'trunk' if on else '[]'}"],
    "freeze_batch_norm": lambda on: [f"model.trunk.batch_norm={'inference' if on else 'training'}"],
    "logit_concat_sim": lambda on: [f"model.heads.similarity.append={'logits' if on else '[]'}"],
    "classifier_lr_factor": lambda factor: [
        FACTOR.format(group, factor) for group in ("attention", "classifier")
    ],
    "lr_schedule": lambda name: [f"stages.0.schedule={SCHEDULES[name]}"],
    "dev_percent": lambda share: [f"validation.share={share}" if share else "validation=None"],
    "dev_split": lambda name: [f"validation={SPLITS[name]}"],
    "images_per_class": lambda _: [],  # the number of classes would have to change with it
}
"""Name of a flag -> value -> settings, where the value in the recipe is not that of the flag."""
LISTS = ("losses", "input.augment")


def settings_for(name: str, value: Any) -> list[str]:
    """Return the settings "PATH=VALUE" of a recipe that do what the flag does; empty when there are no simple ones."""
    if name in TRANSLATED:
        return TRANSLATED[name](value)
    path = ORIGINAL_FLAGS[name].path
    if path in LISTS:
        return []
    return [f"{path}={value if isinstance(value, str) else json.dumps(value)}"]


def hint(name: str, value: Any, recipe: AnyRecipe) -> str:
    """Return in words what to pass instead of the flag, with a recipe that has what it changes or has not."""
    settings = settings_for(name, value)
    try:
        with_settings(recipe, settings)
    except UsageError:
        settings = []
    if settings:
        return "with --recipe pass " + " ".join(f"--set {shlex.quote(one)}" for one in settings)
    return (
        f"a recipe has it in {ORIGINAL_FLAGS[name].path}: write `mandoo recipes --recipe={recipe.name} > mine.json`, "
        "change it there and pass --recipe=mine.json"
    )
