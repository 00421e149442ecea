"""Describe systems as data: `schema.py` defines the records, `registry.py` lists the recipes.

Each recipe has its own file. `RECIPES`, `find_recipe` and `overview` of the registry can also
be imported from here.
"""

from delf_ext.recipes.registry import RECIPES as RECIPES
from delf_ext.recipes.registry import find_recipe as find_recipe
from delf_ext.recipes.registry import overview as overview
