"""Compare the flags of --resume with those that the run was trained with."""

from __future__ import annotations

import os
import re
from typing import Any

from data_io.progress import quiet
from delf_ext.app.training_settings import settings_of
from delf_ext.config import UsageError
from delf_ext.recipes import codec, schema
from delf_ext.recipes.changes import changed_settings
from delf_ext.recipes.mandoo_dual import from_flags
from delf_ext.recipes.members import with_folds
from delf_ext.recipes.original_flags import ORIGINAL_FLAGS
from delf_ext.recipes.registry import find_recipe
from delf_ext.recipes.trunk_names import absolute_weights
from delf_ext.runs.recipe_run import recipe_of
from delf_ext.runs.records import Run
from delf_ext.runs.weights import locate_weights
from delf_ext.verbs.flag_table import FLAGS

# A resumed run may change these: they change how long it trains, what is written when and where,
# and how it is measured, but not the training.
ALLOWED = ("epochs", "eval_every_steps", "checkpoint_every_steps", "pixel_cache", "data")
# What the run decided itself, or a resumed run may change.
FREE = r"model\.trunk\.(layout|weights):|validation\.every_steps:|stages\.\d+\.epochs:"
RECIPE_FLAGS = tuple(name for name in ORIGINAL_FLAGS if name not in ALLOWED)
SETTINGS = ("seed", "deterministic", "mixed_precision")
READING = ("query_split", "merge_labels")
STARTS = ("pretrained_model", "from_run")
STORED = (*ORIGINAL_FLAGS, "recipe", "set", "folds", *SETTINGS, "debug", *READING, *STARTS)


def given(flags: Any, name: str) -> Any:
    """Return the value of a flag that was passed; None if it was not."""
    return flags[name].value if flags[name].present else None


def training_flags(flags: Any) -> dict[str, Any]:
    """Return the passed flags that decide the training; a run stores them."""
    values = {name: flags[name].value for name in STORED if flags[name].present}
    for name in STARTS:
        if values.get(name):
            values[name] = absolute_weights(values[name])
    # Always there: so a run without flags differs from one that was made without the command line.
    return {"recipe": flags.recipe, **values}


def take_flags_of_run(run: Run, flags: Any) -> None:
    """Give flags that were not passed the values of the run: how to read data, and precision."""
    for name in READING:
        if not flags[name].present and name in run.facts.flags:
            flags[name].value = run.facts.flags[name]
    if not flags["mixed_precision"].present:
        flags["mixed_precision"].value = settings_of(run).mixed_precision


def require_same_training(run: Run, flags: Any) -> None:
    """Check that the passed flags are those of the run.

    Args:
        run: the run.
        flags: flags of the command line.

    Raises:
        UsageError: a flag differs; the message names both values.
    """
    differences = [*_settings(run, flags), *_starts(run, flags), *_recipe(run, flags)]
    if differences:
        allowed = ", ".join(f"--{name}" for name in ALLOWED)
        raise UsageError(
            f"--resume continues the same training, but {'; '.join(differences)}. Leave it out, or "
            f"start a new run from these weights: --from_run={run.path} and another --run_dir. "
            f"A resumed run can change {allowed}."
        )


def _difference(name: str, value: Any, stored: Any) -> str:
    return f"--{name}={_shown(value)} differs from the run's {_shown(stored)}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _settings(run: Run, flags: Any) -> list[str]:
    settings = settings_of(run)
    stored = {name: getattr(settings, name) for name in SETTINGS}
    stored["debug"] = settings.max_images > 0
    for name in READING:
        if run.facts.flags:
            stored[name] = run.facts.flags.get(name, FLAGS[name].default)
    return [
        _difference(name, flags[name].value, value)
        for name, value in stored.items()
        if flags[name].present and flags[name].value != value
    ]


def _starts(run: Run, flags: Any) -> list[str]:
    differences = []
    if flags.pretrained_model:
        weights = locate_weights(absolute_weights(flags.pretrained_model), quiet)
        if not _is_same_place(weights, run.facts.weights):
            stored = run.facts.weights or "random weights"
            differences.append(_difference("pretrained_model", flags.pretrained_model, stored))
    if flags.from_run:
        stored = run.facts.flags.get("from_run") or "no other run"
        if not _is_same_place(flags.from_run, stored):
            differences.append(_difference("from_run", flags.from_run, stored))
    return differences


def _is_same_place(path: str, stored: str) -> bool:
    """Return whether two paths are one place; links and `..` may spell it in several ways."""
    return bool(stored) and os.path.realpath(path) == os.path.realpath(stored)


def _recipe(run: Run, flags: Any) -> list[str]:
    """Return the differences between the recipe of the run and the one that the flags ask for."""
    recipe = recipe_of(run)
    differences = []
    folds = run.facts.flags.get("folds", 0)
    if flags["folds"].present and flags.folds != folds:
        differences.append(_difference("folds", flags.folds, folds))
    if flags["recipe"].present:
        wanted = find_recipe(flags.recipe)
        settings = [*run.facts.flags.get("set", ()), *flags["set"].value]
        wanted = with_folds(codec.with_settings(wanted, settings), folds)
        changes = _changes(recipe, wanted, FREE)
        if changes:
            what = f"--recipe={flags.recipe} differs from the run's recipe {recipe.name}"
            differences.append(f"{what} ({changes})")
    new = [text for text in flags["set"].value if text not in run.facts.flags.get("set", ())]
    # Paths of settings are those of the recipe before it was divided into folds.
    if folds and new:
        differences.append(f"--set {new[0]} is new")
        new = []
    for setting in new:
        changes = _changes(recipe, codec.with_settings(recipe, [setting]))
        if changes:
            differences.append(f"--set {setting} differs from the run ({changes})")
    return [*differences, *_original_flags(run, recipe, flags)]


def _original_flags(run: Run, recipe: codec.AnyRecipe, flags: Any) -> list[str]:
    passed = {name: flags[name].value for name in RECIPE_FLAGS if flags[name].present}
    stored = run.facts.flags
    if not stored or stored.get("recipe"):
        return [
            difference
            for name, value in passed.items()
            if (difference := _difference_by_path(recipe, name, value))
        ]
    known = {name: value for name, value in stored.items() if name in ORIGINAL_FLAGS}
    other = {
        name: value
        for name, value in passed.items()
        if value != known.get(name, ORIGINAL_FLAGS[name].default)
    }
    if isinstance(recipe, schema.Recipe) and other.get("layout") == recipe.model.trunk.layout:
        del other["layout"]
    # Two spellings of the same recipe are no difference.
    if not other or _are_alike({**known, **other}, known):
        return []
    defaults = {name: ORIGINAL_FLAGS[name].default for name in other}
    return [
        _difference(name, value, known.get(name, defaults[name])) for name, value in other.items()
    ]


def _are_alike(flags: dict[str, Any], others: dict[str, Any]) -> bool:
    try:
        return from_flags(flags) == from_flags(others)
    except UsageError:
        # They do not even fit together.
        return False


def _difference_by_path(recipe: codec.AnyRecipe, name: str, value: Any) -> str:
    """Compare one flag with the recipe of a run that was not made with such flags."""
    path = ORIGINAL_FLAGS[name].path
    try:
        changes = _changes(recipe, codec.with_settings(recipe, [f"{path}={value}"]))
    except UsageError:
        return f"--{name}={_shown(value)} has no place in the run's recipe {recipe.name}"
    return f"--{name}={_shown(value)} differs from the run ({changes})" if changes else ""


def _changes(old: codec.AnyRecipe, new: codec.AnyRecipe, free: str = "") -> str:
    """Return the differences of two recipes; those whose line matches `free` do not count."""
    if not (isinstance(old, schema.Recipe) and isinstance(new, schema.Recipe)):
        return "" if old == new else f"{old.name} -> {new.name}"
    lines = changed_settings(old, new)
    if free:
        lines = [line for line in lines if not re.match(free, line)]
    return ", ".join(lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")
