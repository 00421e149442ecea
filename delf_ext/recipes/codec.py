"""Recipes as JSON tagged by class name, and the settings of a recipe by path. Standard library only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, TypeVar

from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.recipes.part import PARTS, Part, alternatives, field_types, item_type

Kind = TypeVar("Kind", bound=Part)
AnyRecipe = schema.Recipe | schema.EnsembleRecipe


def to_json(value: Any) -> Any:
    """Return plain JSON data: a part as {"type": its class, field: value, ...}, with every field written out."""
    if isinstance(value, Part):
        fields = {
            field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
        return {"type": type(value).__name__, **fields}
    return [to_json(one) for one in value] if isinstance(value, tuple) else value


def from_json(value: Any, where: str = "recipe") -> Any:
    """Return what `to_json` was given.

    Raises: UsageError that names the place in the data and, for an unknown type or key, the known ones.
    """
    if isinstance(value, list):
        return tuple(from_json(one, f"{where}.{row}") for row, one in enumerate(value))
    if not isinstance(value, dict):
        return value
    tag = value.get("type")
    if not isinstance(tag, str) or tag not in PARTS:
        named = f"unknown type {tag!r}" if "type" in value else 'no "type"'
        raise UsageError(f"{where}: {named}. Known types: {', '.join(sorted(PARTS))}.")
    known = field_types(PARTS[tag])
    unknown = sorted(set(value) - {"type", *known})
    if unknown:
        raise UsageError(
            f"{where}: unknown key {', '.join(unknown)} in {tag}. Known: {', '.join(known)}."
        )
    fields = {
        name: from_json(one, f"{where}.{name}") for name, one in value.items() if name != "type"
    }
    return _made(PARTS[tag], fields, where)


def _made(kind: type[Part], fields: dict[str, Any], where: str) -> Part:
    missing = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.name not in fields
    ]
    if missing:
        raise UsageError(f"{where}: {kind.__name__} needs {', '.join(missing)}.")
    try:
        return kind(**fields)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def recipe_from_json(value: Any, where: str = "recipe") -> AnyRecipe:
    """Return the recipe. Raises: UsageError as `from_json`, and when the data hold another part."""
    recipe = from_json(value, where)
    if not isinstance(recipe, AnyRecipe):
        found = recipe.__class__.__name__ if isinstance(recipe, Part) else type(value).__name__
        raise UsageError(
            f'{where}: must be an object with "type": "Recipe" or "EnsembleRecipe". Received {found}.'
        )
    return recipe


# --- settings by path ---------------------------------------------------------------------------------------------


def with_settings(part: Kind, settings: Sequence[str]) -> Kind:
    """Return the part with settings such as "optimizer.lr=1e-3" applied in order.

    A path names fields; in a list an element is named by its name, by its class, or by its number from 0. A value is
    JSON or plain text; a part is given as JSON, or by its class name alone ("model.heads.main.pool=Gem").
    Raises: UsageError with the path and what is known there.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise UsageError(
                f"--set takes PATH=VALUE, such as optimizer.lr=1e-3. Received {setting!r}."
            )
        part = with_value(part, path.strip(), text.strip())
    return part


def with_value(part: Kind, path: str, text: str) -> Kind:
    """Return the part with the value at `path` replaced. Raises: UsageError as `with_settings`."""
    try:
        return _replaced(part, type(part), path.split("."), (), text)
    except UsageError as error:
        message = str(error)
        raise UsageError(
            message if message.startswith("--set") else f"--set {path}={text}: {message}"
        ) from None


def _replaced(
    value: Any, annotation: Any, rest: list[str], done: tuple[str, ...], text: str
) -> Any:
    if not rest:
        return _parsed(text, annotation)
    name, place = rest[0], ".".join(done) or "the recipe"
    if isinstance(value, tuple):
        row = _row(value, name, place)
        new = _replaced(value[row], item_type(annotation), rest[1:], (*done, name), text)
        return (*value[:row], new, *value[row + 1 :])
    if not isinstance(value, Part):
        raise UsageError(f"--set: {place} is {value!r} and has no part {name!r}.")
    types = field_types(type(value))
    if name not in types:
        raise UsageError(
            f"--set: {place} ({type(value).__name__}) has no {name!r}. Known: {', '.join(types)}."
        )
    new = _replaced(getattr(value, name), types[name], rest[1:], (*done, name), text)
    return dataclasses.replace(value, **{name: new})


def _row(values: tuple[Any, ...], name: str, place: str) -> int:
    if name.isdecimal() and int(name) < len(values):
        return int(name)
    names = [_name(value) for value in values]
    if name not in names:
        raise UsageError(
            f"--set: {place} has no {name!r}. Known: {', '.join(names) or 'none, it is empty'}."
        )
    return names.index(name)


def _name(value: Any) -> str:
    """Return how an element of a list is called in a path."""
    if isinstance(value, schema.LossTerm):
        return value.shown_name
    named = getattr(value, "name", "") or getattr(value, "group", "")
    return named or type(value).__name__


def _parsed(text: str, annotation: Any) -> Any:
    kinds = alternatives(annotation)
    if text in PARTS and any(
        isinstance(kind, type) and issubclass(PARTS[text], kind) for kind in kinds
    ):
        return _made(PARTS[text], {}, text)
    if annotation is str:
        return text
    if item_type(annotation) is str and not text.startswith("["):
        return tuple(word.strip() for word in text.split(",") if word.strip())
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # plain text, or what JSON cannot hold
        return {"None": None, "none": None}.get(text, text)
    return from_json(value, "value")
