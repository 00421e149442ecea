"""Systems as data: `schema.py` has the records, each system is one file, `registry.py` lists them.

`RECIPES`, `find_recipe` and `overview` of the registry are found here too, for notebooks.
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
