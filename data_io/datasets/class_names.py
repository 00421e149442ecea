"""Find class names that differ only in how they are written, and join them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from data_io.spelling import nfc, nfkc, spelling_key, visible, without_space, without_zeros

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
        Class name -> spelling that stands for it, and lines that say what was joined.

    Raises:
        ValueError: there are such names and `merge` is False.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(num_images, key=_preference):
        groups.setdefault(spelling_key(name), []).append(name)
    alike = [names for names in groups.values() if len(names) > 1]
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
    return {name: names[0] for names in groups.values() for name in names}, notes


def _preference(name: str) -> tuple[bool, int, str]:
    """Return a sort key: plain spellings first, then short ones. It does not depend on counts."""
    plain = nfc(visible(name))
    return plain != name, len(name), name


def _described(names: Iterable[str], num_images: Mapping[str, int]) -> str:
    """Return the spellings of one class, their numbers of images, and how they differ."""
    first, *others = names
    causes = dict.fromkeys(_cause(first, other) for other in others)
    spellings = " and ".join(
        f"{_shown(name, first, others)} ({num_images[name]} images)" for name in (first, *others)
    )
    return f"{spellings}: {', '.join(causes)}"


def _cause(first: str, other: str) -> str:
    for cause, simplified in CAUSES.items():
        if simplified(first) == simplified(other):
            return cause
    return "several differences"


def _shown(name: str, first: str, others: Iterable[str]) -> str:
    """Return a name in quotes; escape it if another one looks the same."""
    same = [other for other in (first, *others) if nfc(other) == nfc(name)]
    return repr(name) if len(same) == 1 else f"{nfc(name)!r} = {ascii(name)}"
