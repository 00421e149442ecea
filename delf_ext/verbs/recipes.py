"""List the recipes, or print one of them as JSON."""

from __future__ import annotations

import json
from typing import Any

from delf_ext.config import UsageError
from delf_ext.recipes.codec import to_json, with_settings
from delf_ext.recipes.registry import find_recipe, overview
from delf_ext.recipes.trunk_names import TRUNKS


def run(flags: Any) -> None:
    """Print all recipes, or with --recipe one of them as JSON, changed by --set.

    Raises:
        UsageError: if --set is passed without --recipe, or does not fit the recipe.
    """
    if flags.recipe:
        recipe = with_settings(find_recipe(flags.recipe), flags["set"].value)
        print(json.dumps(to_json(recipe), indent=1))
        return
    if flags["set"].value:
        raise UsageError("--set changes a recipe: name it with --recipe.")
    for name, about in overview().items():
        print(f"{name}\n  {about.summary}")
        for field in ("source", "command", "cost", "expected"):
            print(f"  {field:<9} {getattr(about, field)}")
    print(f"\ntrunks (--resnet_type, Trunk.name; weights: docs/weights.md)\n  {', '.join(TRUNKS)}")
    print(
        "\nmandoo recipes --recipe=NAME prints one as JSON; add --set PATH=VALUE to change it. "
        "docs/recipes.md explains all of them."
    )
