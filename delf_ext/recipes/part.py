"""The base of every recipe record: frozen, and checked against its own type annotations when made."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from typing import Any, ClassVar

from delf_ext.config import UsageError

PARTS: dict[str, type[Part]] = {}
"""Class name -> record class. The name is the tag of the record in JSON."""
_TYPES: dict[type[Part], dict[str, Any]] = {}


@dataclasses.dataclass(frozen=True)
class Part:
    """A record of a recipe. Subclasses are frozen dataclasses whose fields are numbers, texts, parts or tuples of these.

    is_base: set in a class that only its subclasses' records are made of.

    Raises: UsageError, one line, when a field has the wrong type or `check` refuses its value.
    """

    is_base: ClassVar[bool]

    def __init_subclass__(cls) -> None:
        PARTS[cls.__name__] = cls

    def __post_init__(self) -> None:
        if vars(type(self)).get("is_base"):
            kinds = ", ".join(kind.__name__ for kind in type(self).__subclasses__())
            raise UsageError(
                f"{type(self).__name__} is the name of several parts. Choose one of: {kinds}."
            )
        for name, annotation in field_types(type(self)).items():
            where = f"{type(self).__name__}.{name}"
            object.__setattr__(self, name, coerced(getattr(self, name), annotation, where))
        self.check()

    def check(self) -> None:
        """Refuse values that have the right type and make no sense."""


def field_types(part: type[Part]) -> dict[str, Any]:
    """Return field name -> type annotation, in order."""
    if part not in _TYPES:
        hints = typing.get_type_hints(part)
        _TYPES[part] = {field.name: hints[field.name] for field in dataclasses.fields(part)}
    return _TYPES[part]


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union; any other annotation as the only member."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def item_type(annotation: Any) -> Any:
    """Return X of `tuple[X, ...]`; None for any other annotation."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is tuple else None


def coerced(value: Any, annotation: Any, where: str) -> Any:
    """Return `value` in the type that `annotation` names: whole numbers become floats, lists tuples.

    Raises: UsageError with `where`, the type that is needed and the value that came.
    """
    item = item_type(annotation)
    if item is not None:
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{where} must be a list. Received {value!r}.")
        return tuple(coerced(one, item, f"{where}.{row}") for row, one in enumerate(value))
    kinds = alternatives(annotation)
    if float in kinds and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if type(value) in kinds and type(value) is not float:  # exactly: True is not a whole number
        return value
    if isinstance(value, Part) and any(isinstance(value, kind) for kind in kinds):
        return value
    raise UsageError(f"{where} must be {_described(kinds)}. Received {_shown(value)}.")


NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    type(None): "null",
}


def _described(kinds: tuple[Any, ...]) -> str:
    texts = [NAMES.get(kind, kind.__name__) for kind in kinds]
    return " or ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _shown(value: Any) -> str:
    return type(value).__name__ if isinstance(value, Part) else repr(value)


def one_of(names: tuple[str, ...]) -> str:
    """Return 'a, b or c'."""
    return ", ".join(name or '""' for name in names[:-1]) + f" or {names[-1]}"


def snake_case(name: str) -> str:
    """Return "arc_face" for "ArcFace"."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip(
        "_"
    )


def not_built(part: Part, build: Any) -> UsageError:
    """Return the error for a part that recipes can describe and `build`, a singledispatch, cannot make yet."""
    built = sorted(
        kind.__name__ for kind in build.registry if issubclass(kind, Part) and kind is not Part
    )
    return UsageError(
        f"{type(part).__name__} is not built yet. Built: {', '.join(built) or 'none of its kind'}."
    )
