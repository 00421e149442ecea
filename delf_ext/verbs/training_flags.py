"""Turn the flags of `train` into a recipe and the settings of a run."""

from __future__ import annotations

from typing import Any

from delf_ext.app.training_settings import Settings
from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.recipes.changes import with_epochs
from delf_ext.recipes.codec import AnyRecipe, with_settings
from delf_ext.recipes.mandoo_dual import from_flags
from delf_ext.recipes.members import with_folds
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS
from delf_ext.recipes.registry import find_recipe
from delf_ext.verbs.hints import hint

DEBUG_EPOCHS = 2
DEBUG_EVAL_EVERY_STEPS = 5
DEBUG_IMAGES = 240


def recipe_from_flags(flags: Any) -> AnyRecipe:
    """Return --recipe, or the recipe of the 2018 original's flags, with --set and --folds applied.

    Raises:
        UsageError: naming the flag that does not fit.
    """
    return with_folds(_one_recipe(flags), flags.folds)


def _one_recipe(flags: Any) -> AnyRecipe:
    if not flags.recipe:
        values = {name: flags[name].value for name in ORIGINAL_FLAGS}
        if flags.debug:
            small = {"epochs": DEBUG_EPOCHS, "eval_every_steps": DEBUG_EVAL_EVERY_STEPS}
            values |= {name: value for name, value in small.items() if not flags[name].present}
        return with_settings(from_flags(values), flags["set"].value)
    recipe = find_recipe(flags.recipe)
    for name in ORIGINAL_FLAGS:
        if flags[name].present:
            instead = hint(name, flags[name].value, recipe)
            raise UsageError(f"--{name} cannot be combined with --recipe. {instead}")
    recipe = with_settings(recipe, flags["set"].value)
    return _for_debugging(recipe) if flags.debug else recipe


def _for_debugging(recipe: AnyRecipe) -> AnyRecipe:
    """Return the recipe with one epoch per stage, at least two in all, and early evaluations."""
    if not isinstance(recipe, schema.Recipe):
        raise UsageError(
            "--debug makes one recipe small; debug the members of an ensemble one by one."
        )
    settings = [f"stages.{row}.epochs=1" for row in range(len(recipe.stages))]
    if recipe.validation is not None:
        settings.append(f"validation.every_steps={DEBUG_EVAL_EVERY_STEPS}")
    recipe = with_settings(recipe, settings)
    return with_epochs(recipe, max(DEBUG_EPOCHS, len(recipe.stages)))


def settings_from_flags(flags: Any) -> Settings:
    """Return the settings of a run that are not part of its recipe.

    Raises:
        UsageError: if a value is out of range.
    """
    return Settings(
        seed=flags.seed,
        deterministic=flags.deterministic,
        mixed_precision=flags.mixed_precision,
        checkpoint_every_steps=flags.checkpoint_every_steps,
        max_images=DEBUG_IMAGES if flags.debug else 0,
        pixel_cache=str(flags.pixel_cache or ""),
    )
