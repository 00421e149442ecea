"""Compare two recipes, and change the number of epochs. Uses the standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from delf_ext.config import UsageError
from delf_ext.recipes import codec, schema

NOTHING = "nothing"
"""Text of an empty value, and of one that a recipe does not have."""


def with_epochs(recipe: schema.Recipe, epochs: int) -> schema.Recipe:
    """Return the recipe with another total number of epochs; only the last stage changes.

    Args:
        recipe: a recipe.
        epochs: epochs of all stages together.

    Returns:
        The changed recipe.

    Raises:
        UsageError: the earlier stages take that many epochs already.
    """
    *earlier, last = recipe.stages
    num_earlier = sum(stage.epochs for stage in earlier)
    if epochs <= num_earlier:
        raise UsageError(
            f"--epochs must be above {num_earlier}, the epochs of the earlier stages. "
            f"Received {epochs}."
        )
    last = dataclasses.replace(last, epochs=epochs - num_earlier)
    return dataclasses.replace(recipe, stages=(*earlier, last))


def changed_settings(old: schema.Recipe, new: schema.Recipe) -> list[str]:
    """Return one line such as "optimizer.lr: 0.0001 -> 1e-05" for each changed value.

    Args:
        old: the first recipe.
        new: the second recipe.

    Returns:
        The lines, sorted. Differences in `about` are left out.
    """
    recipes = [dataclasses.replace(recipe, about=schema.About()) for recipe in (old, new)]
    before, after = (
        {path: _shown(value) for path, value in _values_by_path(codec.to_json(recipe))}
        for recipe in recipes
    )
    lines = []
    for path in sorted(before.keys() | after.keys()):
        old_value, new_value = before.get(path, NOTHING), after.get(path, NOTHING)
        if old_value != new_value:
            lines.append(f"{path}: {old_value} -> {new_value}")
    return lines


def _shown(value: Any) -> str:
    """Return a value as text; an empty one would leave a gap in the line."""
    return NOTHING if value in ("", None) else str(value)


def _values_by_path(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of all values in nested JSON data."""
    if not isinstance(value, (dict, list)):
        yield path, value
        return
    for name, child in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _values_by_path(child, f"{path}.{name}".lstrip("."))
