"""List the recipes of mandoo. To add one, write its file and add it to RECIPES."""

from __future__ import annotations

import json
from pathlib import Path

from delf_ext.config import UsageError
from delf_ext.recipes import (
    best_here,
    demo,
    lotte_winner,
    mandoo_block3,
    mandoo_dual,
    mandoo_dual_tuned,
    mandoo_query_expansion,
    mandoo_triplet,
    norm_softmax,
)
from delf_ext.recipes.codec import AnyRecipe, recipe_from_json
from delf_ext.recipes.schema import About

RECIPES: dict[str, AnyRecipe] = {
    recipe.name: recipe
    for recipe in (
        best_here.RECIPE,
        mandoo_dual.RECIPE,
        mandoo_dual_tuned.RECIPE,
        mandoo_triplet.RECIPE,
        mandoo_query_expansion.RECIPE,
        mandoo_block3.RECIPE,
        norm_softmax.RECIPE,
        lotte_winner.RECIPE,
        lotte_winner.HERE,
        demo.RECIPE,
    )
}
OTHER_SYSTEMS: dict[str, About] = {
    "keras_baseline": About(
        summary="Official baseline of the challenge: a small classifier with its own trainer.",
        source="NAVER AI Hackathon 2018, official Keras code",
        command="python -m baseline_keras --data=photos/",
        cost="100 epochs",
        expected=(
            "published: mAP 0.0116 on the data of the challenge; "
            "Grocery Store (queries: val, gallery: train), 12 epochs at 96 px: mAP 0.191"
        ),
    )
}


def find_recipe(name_or_path: str) -> AnyRecipe:
    """Return a recipe by name, or read one from a JSON file.

    Args:
        name_or_path: name in RECIPES, or path of a file.

    Returns:
        The recipe.

    Raises:
        UsageError: the name is unknown, or the file does not hold a recipe.
    """
    if name_or_path in RECIPES:
        return RECIPES[name_or_path]
    if name_or_path in OTHER_SYSTEMS:
        raise UsageError(
            f"{name_or_path} has its own training command: {OTHER_SYSTEMS[name_or_path].command}"
        )
    path = Path(name_or_path)
    if not path.is_file():
        raise UsageError(
            f"unknown recipe {name_or_path!r}. Known: {', '.join(RECIPES)}. "
            "Or pass the path of a JSON file."
        )
    try:
        return recipe_from_json(json.loads(path.read_text(encoding="utf-8-sig")), str(path))
    except RecursionError:
        raise UsageError(f"{path}: not readable as JSON (nested too deeply).") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path}: not readable as JSON ({error}).") from None


def overview() -> dict[str, About]:
    """Return name -> description of every system; the recipes come first."""
    return {**{name: recipe.about for name, recipe in RECIPES.items()}, **OTHER_SYSTEMS}
