"""Describe systems as data: `schema.py` defines the records, `registry.py` lists the recipes.

Each recipe has a file of its own. `RECIPES`, `find_recipe` and `overview` of the registry can also
be imported from here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delf_ext.recipes.registry import RECIPES as RECIPES
    from delf_ext.recipes.registry import find_recipe as find_recipe
    from delf_ext.recipes.registry import overview as overview


def __getattr__(name: str) -> Any:
    if name in ("RECIPES", "find_recipe", "overview"):
        return getattr(importlib.import_module("delf_ext.recipes.registry"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}.")
