"""What differs between two recipes, and the change that a resumed run may have. Standard library only."""

from __future__ import annotations

import dataclasses
from typing import Any

from delf_ext.config import UsageError
from delf_ext.recipes import codec, schema


def with_epochs(recipe: schema.Recipe, epochs: int) -> schema.Recipe:
    """Return the recipe with another number of epochs in its last stage, `epochs` in all.

    Raises: UsageError when the earlier stages already take as many.
    """
    *earlier, last = recipe.stages
    left = epochs - sum(stage.epochs for stage in earlier)
    if left < 1:
        raise UsageError(
            f"--epochs must be above {epochs - left}, the epochs of the earlier stages. Received {epochs}."
        )
    return dataclasses.replace(recipe, stages=(*earlier, dataclasses.replace(last, epochs=left)))


def changed_settings(old: schema.Recipe, new: schema.Recipe) -> list[str]:
    """Return one line "optimizer.lr: 0.0001 -> 1e-05" for each value in which two recipes differ; `about` is left out."""
    before, after = (
        _flat(codec.to_json(dataclasses.replace(one, about=schema.About()))) for one in (old, new)
    )
    paths = sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )
    return [
        f"{path}: {before.get(path, 'nothing')} -> {after.get(path, 'nothing')}" for path in paths
    ]


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else None
    )
    if items is None:
        return {path: value}
    return {
        key: one
        for name, part in items
        for key, one in _flat(part, f"{path}.{name}".lstrip(".")).items()
    }
