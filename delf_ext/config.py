"""Check settings, and define the error for wrong ones."""

from __future__ import annotations

from typing import Any, TypeVar, get_type_hints

Section = TypeVar("Section")


class UsageError(ValueError):
    """Wrong flags or settings, as opposed to data that cannot be used."""


def require(holds: bool, message: str) -> None:
    """Raise `UsageError(message)` unless `holds`."""
    if not holds:
        raise UsageError(message)


def strict(kind: type[Section], values: dict[str, Any]) -> Section:
    """Build a dataclass from plain data, such as a JSON object.

    Args:
        kind: the dataclass.
        values: field name -> value; a field that is missing gets its default.

    Returns:
        The record.

    Raises:
        ValueError: `values` is not a mapping, or has unknown keys (the message lists the known).
    """
    known = sorted(get_type_hints(kind))
    names = ", ".join(known)
    if not isinstance(values, dict):
        raise ValueError(
            f"{kind.__name__} must be a mapping with some of: {names}. Received {values!r}."
        )
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)} in {kind.__name__}. Known: {names}.")
    return kind(**values)
