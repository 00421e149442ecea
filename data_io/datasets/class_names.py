"""Find class names that differ only in how they are written, and join them."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

from data_io.tables.spelling import (
    nfc,
    nfkc,
    spelling_key,
    visible,
    with_plain_signs,
    without_space,
    without_zeros,
)

NORMAL_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
NUM_SHOWN = 5
"""Number of groups of class names that a message shows."""
# Tried in this order; the last one includes those before it.
CAUSES: Mapping[str, Callable[[str], str]] = {
    "upper and lower case": str.casefold,
    "white space": without_space,
    "Unicode normal form": nfc,
    "invisible characters": visible,
    "leading zeros or a final .0": without_zeros,
    "full and half width": nfkc,
    "typographic dashes or quotes": with_plain_signs,
}


def joined_names(
    path: Path, num_images: Mapping[str, int], merge: bool
) -> tuple[dict[str, str], list[str]]:
    """Choose one spelling for class names that differ only in how they are written.

    Args:
        path: of the data, for messages.
        num_images: class name -> number of its images.
        merge: whether such names are joined; otherwise they are an error.

    Returns:
        Class name -> the spelling that is used, and lines that say what was joined.

    Raises:
        ValueError: there are such names and `merge` is False.
    """
    groups = _groups(num_images)
    alike = [names for names in groups if len(names) > 1]
    if alike and not merge:
        shown = "; ".join(_described(names, num_images) for names in alike[:NUM_SHOWN])
        more = f"; and {len(alike) - NUM_SHOWN} more" if len(alike) > NUM_SHOWN else ""
        raise ValueError(
            f"{path}: labels that differ only in how they are written ({len(alike)}): "
            f"{shown}{more}. "
            "Correct them, or pass --merge_labels to join them."
        )
    notes = [f"joined labels: {_described(names, num_images)}" for names in alike[:NUM_SHOWN]]
    if len(alike) > NUM_SHOWN:
        notes.append(f"joined labels: {len(alike)} in all")
    return {name: names[0] for names in groups for name in names}, notes


def alike_notes(what: str, num_images: Mapping[str, int]) -> list[str]:
    """Return a line for each of the first names that are written in several ways.

    Args:
        what: the names are, for the lines.
        num_images: name -> number of its images.
    """
    alike = [names for names in _groups(num_images) if len(names) > 1]
    return [
        f"{what} that differ only in how they are written: {_described(names, num_images)}"
        for names in alike[:NUM_SHOWN]
    ]


def _groups(num_images: Mapping[str, int]) -> list[list[str]]:
    """Return the names with an equal key together, the preferred spelling first."""
    groups: dict[str, list[str]] = {}
    for name in sorted(num_images, key=_preference):
        groups.setdefault(spelling_key(name), []).append(name)
    return list(groups.values())


def _preference(name: str) -> tuple[bool, int, str]:
    """Return a sort key: plain spellings first, then short ones. It does not depend on counts."""
    plain = nfc(visible(name))
    return plain != name, len(name), name


def _described(names: Iterable[str], num_images: Mapping[str, int]) -> str:
    """Return the spellings of one class, their numbers of images, and how they differ."""
    first, *others = names
    causes = dict.fromkeys(_cause(first, other) for other in others)
    spellings = " and ".join(
        f"{_shown(name, (first, *others))} ({num_images[name]} images)" for name in (first, *others)
    )
    return f"{spellings}: {', '.join(causes)}"


def _cause(first: str, other: str) -> str:
    for cause, simplified in CAUSES.items():
        if simplified(first) == simplified(other):
            return cause
    return "several differences"


def _shown(name: str, spellings: Iterable[str]) -> str:
    """Return a name in quotes, with its Unicode normal form if another spelling looks the same."""
    if sum(nfc(other) == nfc(name) for other in spellings) == 1:
        return repr(name)
    forms = [form for form in NORMAL_FORMS if unicodedata.is_normalized(form, name)]
    return f"{nfc(name)!r} in {forms[0] if forms else 'mixed forms'}"
