"""recipes: the systems that can be trained, as a table; or one of them as JSON."""

from __future__ import annotations

import json
from typing import Any

from delf_ext.config import UsageError
from delf_ext.recipes.codec import to_json, with_settings
from delf_ext.recipes.registry import find_recipe, overview


def run(flags: Any) -> None:
    if flags.recipe:
        print(
            json.dumps(
                to_json(with_settings(find_recipe(flags.recipe), flags["set"].value)), indent=1
            )
        )
        return
    if flags["set"].value:
        raise UsageError("--set changes a recipe: name it with --recipe.")
    for name, about in overview().items():
        print(f"{name}\n  {about.summary}")
        for what in ("source", "command", "cost", "expected"):
            print(f"  {what:<9} {getattr(about, what)}")
    print(
        "\nmandoo recipes --recipe=NAME prints one as JSON; --set PATH=VALUE changes it; docs/recipes.md has them all."
    )
