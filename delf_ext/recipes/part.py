"""Define the base class of all recipe records, which checks each field against its annotation."""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from delf_ext.config import UsageError, require

PARTS: dict[str, type[Part]] = {}
"""Class name -> record class. The name is the "type" of the record in JSON."""
_TYPES: dict[type[Part], dict[str, Any]] = {}
TYPE_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}
"""Type -> how messages name it."""
LARGEST = 1_000_000_000
"""Largest size of a number without an upper bound; more is a slip of the keyboard."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Base of the records of a recipe.

    A subclass is a frozen dataclass. Its fields are numbers, strings, parts, or tuples of these.
    Whole numbers are accepted as floats, and lists as tuples. An annotation such as `Share` or
    `Literal["mean", "sum"]` also says which values are allowed.

    Attributes:
        is_base: True in a class that cannot be used itself, only its subclasses.

    Raises:
        UsageError: a field has the wrong type, or `_check` refuses its value.
    """

    is_base: ClassVar[bool]

    def __init_subclass__(cls) -> None:
        PARTS[cls.__name__] = cls

    def __post_init__(self) -> None:
        kind = type(self)
        # vars, not getattr: a subclass must not inherit the flag of its base.
        if vars(kind).get("is_base"):
            choices = ", ".join(subclass.__name__ for subclass in kind.__subclasses__())
            raise UsageError(
                f"{kind.__name__} is the name of several parts. Choose one of: {choices}."
            )
        for name, annotation in field_types(kind).items():
            value = coerced(getattr(self, name), annotation, f"{kind.__name__}.{name}")
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        """Raise `UsageError` if the values of several fields do not fit together."""


class Range(NamedTuple):
    """Allowed values of a number.

    Attributes:
        low: smallest value.
        above: bound that the value must exceed.
        below: bound that the value must stay below.
        high: largest value.
    """

    low: float = -math.inf
    above: float = -math.inf
    below: float = math.inf
    high: float = math.inf

    def __str__(self) -> str:
        names = ("at least", "above", "below", "at most")
        bounds = [(name, bound) for name, bound in zip(names, self) if math.isfinite(bound)]
        return " and ".join(f"{name} {_shown(bound)}" for name, bound in bounds)

    def require(self, value: float, where: str) -> None:
        """Raise `UsageError` unless the value is allowed; `where` names it in the message."""
        is_allowed = self.low <= value <= self.high and self.above < value < self.below
        require(is_allowed, f"{where} must be {self}. Received {value}.")
        is_bounded = math.isfinite(min(self.high, self.below))
        require(
            is_bounded or value <= LARGEST, f"{where} must be at most {LARGEST}. Received {value}."
        )


def _shown(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"


# Annotations of fields and flags; `coerced` checks the range.
Count = Annotated[int, Range(low=0)]
AtLeast1 = Annotated[int, Range(low=1)]
AtLeast2 = Annotated[int, Range(low=2)]
BatchSize = Annotated[int, Range(low=1, high=65536)]
SidePx = Annotated[int, Range(low=32, high=4096)]
# NumPy's seeds have 32 bits.
Seed = Annotated[int, Range(low=0, high=2**32 - 1)]
# A smaller rate is 0 in float32 after a few factors.
LearningRate = Annotated[float, Range(low=1e-12, high=1000)]
NotNegative = Annotated[float, Range(low=0)]
Positive = Annotated[float, Range(above=0)]
Share = Annotated[float, Range(above=0, high=1)]
Below1 = Annotated[float, Range(low=0, below=1)]


def field_types(part: type[Part]) -> dict[str, Any]:
    """Return field name -> type annotation, in the order of the fields."""
    if part not in _TYPES:
        hints = typing.get_type_hints(part, include_extras=True)
        _TYPES[part] = {field.name: hints[field.name] for field in dataclasses.fields(part)}
    return _TYPES[part]


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself as the only member."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def item_type(annotation: Any) -> Any:
    """Return X of `tuple[X, ...]`, or None for any other annotation."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is tuple else None


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Return the strings of a Literal, or () for any other annotation."""
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def coerced(value: Any, annotation: Any, where: str) -> Any:
    """Convert a value to the type of an annotation: whole numbers to floats, lists to tuples.

    Args:
        value: a value of any type.
        annotation: the type that is needed; a Literal of strings, or a number with a Range.
        where: name of the field or flag, for the message.

    Returns:
        The value in the type of the annotation.

    Raises:
        UsageError: the value has another type, is not a finite number, or is not allowed.
    """
    if typing.get_origin(annotation) is Annotated:
        kind, allowed = typing.get_args(annotation)
        number = coerced(value, kind, where)
        allowed.require(number, where)
        return number
    choices = choices_of(annotation)
    if choices:
        require(value in choices, f"{where} must be {one_of(choices)}. Received {value!r}.")
        return value
    item = item_type(annotation)
    if item is not None:
        if not isinstance(value, (list, tuple)):
            raise UsageError(f"{where} must be a list. Received {value!r}.")
        return tuple(coerced(entry, item, f"{where}.{row}") for row, entry in enumerate(value))
    kinds = alternatives(annotation)
    # Compare exact types: True is an int in Python, but not a number in a recipe.
    if float in kinds and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if type(value) in kinds and type(value) is not float:
        return value
    if isinstance(value, Part) and any(isinstance(value, kind) for kind in kinds):
        return value
    needed = one_of(name for kind in kinds for name in _names(kind))
    received = type(value).__name__ if isinstance(value, Part) else repr(value)
    raise UsageError(f"{where} must be {needed}. Received {received}.")


def _names(kind: Any) -> list[str]:
    """Return how messages name a type; the base of several parts is named by these parts."""
    if kind in TYPE_NAMES:
        return [TYPE_NAMES[kind]]
    if vars(kind).get("is_base"):
        return sorted(name for part in kind.__subclasses__() for name in _names(part))
    return [kind.__name__]


def one_of(names: Iterable[str]) -> str:
    """Return "a, b or c"; an empty name is shown as two quotation marks."""
    *others, last = (name or '""' for name in names)
    return f"{', '.join(others)} or {last}" if others else last


def snake_case(name: str) -> str:
    """Return a class name in snake case: "arc_face" for "ArcFace"."""
    words = (f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return "".join(words).lstrip("_")


class NotBuilt(UsageError):
    """A recipe can describe this part, but the program cannot make it yet."""

    def __init__(self, part: Part, build: Any) -> None:
        """Write a message that lists the parts which can be made.

        Args:
            part: the record.
            build: a `functools.singledispatch` function over record classes.
        """
        kinds = [kind for kind in build.registry if issubclass(kind, Part) and kind is not Part]
        built = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none of its kind"
        super().__init__(f"{type(part).__name__} is not built yet. Built: {built}.")
