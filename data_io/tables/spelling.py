"""Compare texts that differ only in how they are written."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

# Characters that Unicode shows as nothing, although they are no format characters (Cf):
# combining grapheme joiner, Hangul fillers, Khmer vowels, Mongolian and other variation selectors.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U000e0100-\U000e01ef]"
)
# Signs that word processors put in place of those on the keyboard.
PLAIN_SIGNS = str.maketrans("‐‑‒–—−‘’“”", "------''\"\"")
SPACE_OUTSIDE_NUMBERS = re.compile(r"(?<!\d) | (?!\d)")
WHOLE_NUMBER = re.compile(r"([+-]?)0*(\d+)(?:\.0*)?")
# As spreadsheets and float columns write large numbers. Without the plus sign it may be a code.
POWER_OF_TEN = re.compile(r"[+-]?\d(?:\.\d+)?e\+\d{1,2}", re.IGNORECASE)


def spelling_key(name: str) -> str:
    r"""Return a key that is equal for class names that differ only in how they are written.

    Ignored are: upper and lower case, white space (except between digits), Unicode normal forms,
    full and half width, invisible characters, typographic dashes and quotes, and in whole numbers
    leading zeros and a final ".0". The parts of a path are treated one by one.

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
    text = text.translate(PLAIN_SIGNS)
    return "/".join(map(without_zeros, map(without_space, text.split("/"))))


def visible(text: str) -> str:
    """Return a text without format, control and other invisible characters, except white space."""
    if text.isascii() and text.isprintable():
        return text
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


def without_space(text: str) -> str:
    """Return a text without white space; between two digits one space is kept."""
    return SPACE_OUTSIDE_NUMBERS.sub("", " ".join(text.split()))


def nfc(text: str) -> str:
    """Return a text in Unicode normal form C."""
    return unicodedata.normalize("NFC", text)


def nfkc(text: str) -> str:
    """Return a text in normal form KC, which writes full and half width alike."""
    return unicodedata.normalize("NFKC", text)


def with_plain_signs(text: str) -> str:
    """Return a text in normal form KC, with the dashes and quotes of the keyboard."""
    return nfkc(text).translate(PLAIN_SIGNS)


def shortened(text: str, limit: int = 100) -> str:
    """Return a text for a message, cut after `limit` characters.

    >>> shortened("a.jpg"), shortened("abcdef", 3)
    ('a.jpg', 'abc...')
    """
    return text if len(text) <= limit else f"{text[:limit]}..."
