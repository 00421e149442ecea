"""Convert recipes to JSON and back, and change values by path. Uses the standard library only."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.recipes.part import PARTS, Part, alternatives, coerced, field_types, item_type

Kind = TypeVar("Kind", bound=Part)
AnyRecipe = schema.Recipe | schema.EnsembleRecipe

PYTHON_WORDS = {"None": None, "none": None, "True": True, "False": False}
NO_ITEMS = ("None", "none", "null")
"""Texts for an empty list, beside an empty text and []."""


def to_json(value: Any) -> Any:
    """Convert a part to plain JSON data: {"type": class name, field: value, ...}.

    Every field is written, so that a stored recipe does not change if a default changes.

    Args:
        value: a part, a tuple or a plain value.

    Returns:
        Dicts, lists and plain values.
    """
    if isinstance(value, Part):
        names = [field.name for field in dataclasses.fields(value)]
        fields = {name: to_json(getattr(value, name)) for name in names}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value


def from_json(value: Any, where: str = "recipe") -> Any:
    """Convert the data of `to_json` back.

    Args:
        value: dicts, lists and plain values.
        where: name of the data, for messages.

    Returns:
        A part, a tuple or a plain value.

    Raises:
        UsageError: a type or key is unknown, or a value is wrong. The message begins with
            `where` and the path within the data.
    """
    if isinstance(value, list):
        return tuple(from_json(item, f"{where}.{row}") for row, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    tag = value.get("type")
    if not isinstance(tag, str) or tag not in PARTS:
        problem = f"unknown type {tag!r}" if "type" in value else 'no "type"'
        raise UsageError(f"{where}: {problem}. Known types: {', '.join(sorted(PARTS))}.")
    known = field_types(PARTS[tag])
    unknown = sorted(set(value) - {"type", *known})
    if unknown:
        raise UsageError(
            f"{where}: unknown key {', '.join(unknown)} in {tag}. Known: {', '.join(known)}."
        )
    fields = {
        name: from_json(child, f"{where}.{name}") for name, child in value.items() if name != "type"
    }
    return _make_part(PARTS[tag], fields, where)


def _make_part(kind: type[Part], fields: dict[str, Any], where: str) -> Part:
    missing = _missing(kind, fields)
    if missing:
        raise UsageError(f"{where}: {kind.__name__} needs {', '.join(missing)}.")
    try:
        return kind(**fields)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _missing(kind: type[Part], fields: Collection[str]) -> list[str]:
    """Return the fields without a default that are not among `fields`."""
    return [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.name not in fields
    ]


def recipe_from_json(value: Any, where: str = "recipe") -> AnyRecipe:
    """Return the recipe in JSON data.

    Args:
        value: dicts, lists and plain values.
        where: name of the data, for messages.

    Returns:
        The recipe.

    Raises:
        UsageError: as `from_json`, or the data hold another part than a recipe.
    """
    recipe = from_json(value, where)
    if not isinstance(recipe, AnyRecipe):
        received = type(recipe if isinstance(recipe, Part) else value).__name__
        raise UsageError(
            f'{where}: must be an object with "type": "Recipe" or "EnsembleRecipe". '
            f"Received {received}."
        )
    return recipe


# --- values by path


def with_settings(part: Kind, settings: Sequence[str]) -> Kind:
    """Apply settings such as "optimizer.lr=1e-3" to a part, in order.

    A path consists of field names. An element of a list is named by its name, its class, or its
    number from 0. A value is JSON or plain text. A part is given as JSON, or by its class name
    alone: "model.heads.main.pool=Gem". The items of a list can be separated by commas, without
    brackets; no text, or "None", is an empty list. Values may depend on later settings: only the
    result must be a valid recipe.

    Args:
        part: a recipe or another part.
        settings: texts "PATH=VALUE".

    Returns:
        The changed part.

    Raises:
        UsageError: a path does not exist or a value is wrong; the message lists what is known.
    """
    try:
        return _with_settings(part, settings, dataclasses.replace)
    except UsageError as error:
        try:
            changed = _with_settings(part, settings, _replace_unchecked)
            # Parts that are made of JSON are checked.
            return from_json(to_json(changed))
        except UsageError:
            raise error from None


Replace = Callable[..., Any]
"""Function that returns a part with other fields, as `dataclasses.replace`."""


def _replace_unchecked(part: Part, **fields: Any) -> Part:
    """Return the part with other fields of the right types, even if they do not fit together."""
    changed = copy.copy(part)
    types = field_types(type(part))
    for name, value in fields.items():
        value = coerced(value, types[name], f"{type(part).__name__}.{name}")
        object.__setattr__(changed, name, value)
    return changed


def _with_settings(part: Kind, settings: Sequence[str], replace: Replace) -> Kind:
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise UsageError(
                f"--set takes PATH=VALUE, such as optimizer.lr=1e-3. Received {setting!r}."
            )
        path = path.strip()
        text = text.strip()
        try:
            part = _replaced(part, type(part), path.split("."), (), text, replace)
        except UsageError as error:
            message = str(error)
            if not message.startswith("--set"):
                message = f"--set {path}={text}: {message}"
            raise UsageError(message) from None
    return part


def _replaced(
    value: Any,
    annotation: Any,
    path: list[str],
    parents: tuple[str, ...],
    text: str,
    replace: Replace,
) -> Any:
    """Return `value` with the value at `path`, which is relative to it, replaced by `text`."""
    if not path:
        return _parsed(text, annotation)
    name, *rest = path
    place = ".".join(parents) or "the recipe"
    inner = (*parents, name)
    if isinstance(value, tuple):
        row = _row(value, name, place)
        new = _replaced(value[row], item_type(annotation), rest, inner, text, replace)
        return (*value[:row], new, *value[row + 1 :])
    if not isinstance(value, Part):
        raise UsageError(f"--set: {place} is {value!r} and has no part {name!r}.")
    types = field_types(type(value))
    if name not in types:
        raise UsageError(
            f"--set: {place} ({type(value).__name__}) has no {name!r}. Known: {', '.join(types)}."
        )
    new = _replaced(getattr(value, name), types[name], rest, inner, text, replace)
    return replace(value, **{name: new})


def _row(values: tuple[Any, ...], name: str, place: str) -> int:
    if name.isdecimal() and int(name) < len(values):
        return int(name)
    names = [_element_name(value) for value in values]
    if name not in names:
        known = ", ".join(names) or "none, the list is empty"
        raise UsageError(f"--set: {place} has no {name!r}. Known: {known}.")
    return names.index(name)


def _element_name(value: Any) -> str:
    if isinstance(value, schema.LossTerm):
        return value.shown_name
    name = getattr(value, "name", "") or getattr(value, "group", "")
    return name or type(value).__name__


def _parsed(text: str, annotation: Any) -> Any:
    if annotation is str:
        return text
    item = item_type(annotation)
    if item is not None and text[:1] not in ("[", "{"):
        words = [] if text in NO_ITEMS else [word.strip() for word in text.split(",")]
        return tuple(_parsed(word, item) for word in words if word)
    if text in PARTS:
        return _named_part(PARTS[text], annotation)
    if text in PYTHON_WORDS:
        return PYTHON_WORDS[text]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return _number_or_text(text)
    return from_json(value, "value")


def _named_part(kind: type[Part], annotation: Any) -> Part | str:
    """Return the part with its default settings, or its name if a field cannot hold it."""
    if _allows(annotation, kind):
        missing = _missing(kind, {})
        if missing:
            raise UsageError(
                f"{kind.__name__} needs {', '.join(missing)}: pass it as JSON, "
                f'{{"type": "{kind.__name__}", "{missing[0]}": ...}}.'
            )
        return kind()
    for owner in _classes(annotation):
        for name, inner in field_types(owner).items() if issubclass(owner, Part) else ():
            if _allows(inner, kind):
                raise UsageError(f"{kind.__name__} is no {owner.__name__}, but can be its {name}.")
    return kind.__name__


def _number_or_text(text: str) -> float | str:
    """Return a number that is not JSON, such as .5, or plain text."""
    try:
        return float(text)
    except ValueError:
        return text


def _allows(annotation: Any, kind: type[Part]) -> bool:
    """Return whether a field with this annotation can hold parts of this class."""
    return issubclass(kind, _classes(annotation))


def _classes(annotation: Any) -> tuple[type, ...]:
    return tuple(one for one in alternatives(annotation) if isinstance(one, type))
