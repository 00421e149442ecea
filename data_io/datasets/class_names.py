"""Find class names that differ only in how they are written, and join them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path

NUM_SHOWN = 5
"""Number of groups of class names that a message shows."""
# Characters that Unicode shows as nothing, although they are no format characters (Cf):
# combining grapheme joiner, Hangul fillers, Khmer vowels, Mongolian and other variation selectors.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
SPACE_OUTSIDE_NUMBERS = re.compile(r"(?<!\d) | (?!\d)")
WHOLE_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:\.0*)?")
# As spreadsheets and float columns write large numbers. Without the plus sign it may be a code.
POWER_OF_TEN = re.compile(r"[+-]?\d(?:\.\d+)?e\+\d{1,2}", re.IGNORECASE)


def spelling_key(name: str) -> str:
    r"""Return a key that is equal for class names that differ only in how they are written.

    Ignored are: upper and lower case, white space (except between digits), Unicode normal forms,
    full and half width, invisible characters, and in whole numbers leading zeros and a final ".0".
    The parts of a path are treated one by one.

    Args:
        name: of a class.

    Returns:
        The key.

    >>> spelling_key("Ｍｉｌｋ\u200b 2") == spelling_key("milk2")
    True
    >>> [spelling_key(name) for name in ("10.0", "010", "1 0", "1.50", "Fruit/07")]
    ['10', '10', '1 0', '1.50', 'fruit/7']
    """
    text = visible(unicodedata.normalize("NFKD", name))
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text.casefold()).casefold())
    return "/".join(map(without_zeros, map(_without_space, text.split("/"))))


def visible(text: str) -> str:
    """Return a text without format, control and other invisible characters, except white space."""
    return "".join(
        letter
        for letter in INVISIBLE.sub("", text)
        if letter.isspace() or unicodedata.category(letter) not in ("Cf", "Cc")
    )


def without_zeros(text: str) -> str:
    """Return a whole number without leading zeros and a final ".0"; another text unchanged."""
    if POWER_OF_TEN.fullmatch(text):
        number = Decimal(text)
        return f"{number:f}".partition(".")[0] if number == number.to_integral_value() else text
    whole = WHOLE_NUMBER.fullmatch(text)
    if whole is None:
        return text
    sign, digits = whole.groups()
    return f"-{digits}" if sign == "-" and digits != "0" else digits


def _without_space(text: str) -> str:
    """Return a text without white space; between two digits one space is kept."""
    return SPACE_OUTSIDE_NUMBERS.sub("", " ".join(text.split()))


# Tried in this order; the last one includes those before it.
CAUSES: Mapping[str, Callable[[str], str]] = {
    "upper and lower case": str.casefold,
    "white space": _without_space,
    "Unicode normal form": lambda text: unicodedata.normalize("NFC", text),
    "invisible characters": visible,
    "leading zeros or a final .0": without_zeros,
    "full and half width": lambda text: unicodedata.normalize("NFKC", text),
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
    plain = unicodedata.normalize("NFC", visible(name))
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
    nfc = unicodedata.normalize("NFC", name)
    same = [other for other in (first, *others) if unicodedata.normalize("NFC", other) == nfc]
    return repr(name) if len(same) == 1 else f"{nfc!r} = {ascii(name)}"
