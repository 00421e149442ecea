"""Say why the names in a table are not those of the files: one of each, and the likely cause."""

from __future__ import annotations

import html
import os
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from data_io.tables.spelling import (
    nfc,
    shortened,
    spelling_key,
    visible,
    with_plain_signs,
)

MAX_NAMES = 2000
"""Names of a table that are compared with the files."""
NO_IMAGES = (".csv", ".tsv", ".tab", ".txt", ".json", ".md")
MAX_FILES = 100_000
"""Files that are listed to compare the names of a table with them."""


class Mismatch(NamedTuple):
    """A name in a table, the file that it probably means, and what differs.

    Attributes:
        name: as in the table.
        file: name of a file.
        cause: what differs; "" if the file is not alike.
    """

    name: str
    file: str
    cause: str

    def __str__(self) -> str:
        if not self.file:
            return f"In the table: {shortened(self.name)!r}; there is no image on disk."
        cause = f"The likely cause: {self.cause}." if self.cause else "They have nothing in common."
        return f"In the table: {shortened(self.name)!r}; on disk: {shortened(self.file)!r}. {cause}"


def _slashes(name: str) -> str:
    return name.replace("\\", "/")


def _without_ending(name: str) -> str:
    return os.path.splitext(name)[0]


def _without_quotes(name: str) -> str:
    return name.strip("'\"`‘’“”")


def _without_folder(name: str) -> str:
    return _slashes(name).rpartition("/")[2]


def _without_space(name: str) -> str:
    return "".join(visible(name).split())


def _with_plain_numbers(name: str) -> str:
    stem, ending = os.path.splitext(name)
    return spelling_key(name) if ending[1:].isdecimal() else spelling_key(stem) + ending


def _without_web_escapes(name: str) -> str:
    return html.unescape(urllib.parse.unquote(name))


def _ungarbled(name: str) -> str:
    """Return a name that was read in a wrong encoding, if that can be undone."""
    contents = [os.fsencode(name)]
    for wrong in ("cp1252", "latin-1", "cp437"):
        with suppress(UnicodeEncodeError):
            contents.append(name.encode(wrong))
    for content in contents[1:] + contents[:1]:
        for right in ("utf-8", "cp949"):
            with suppress(UnicodeDecodeError):
                return nfc(content.decode(right))
    return name


def _in_all_ways(name: str) -> str:
    plain = _without_folder(_without_quotes(_without_space(nfc(name))))
    return _with_plain_numbers(_without_ending(plain).casefold())


# Tried in this order; the last one ignores all differences at once.
CAUSES: Mapping[str, Callable[[str], str]] = {
    "upper and lower case": str.casefold,
    "Unicode normal form": nfc,
    "backslashes": _slashes,
    "quotes around the name": _without_quotes,
    "white space or invisible characters": _without_space,
    "file endings": _without_ending,
    "escapes of web addresses (%20, &amp;)": _without_web_escapes,
    "typographic signs or full width": with_plain_signs,
    "letters that were read in a wrong encoding": _ungarbled,
    "leading zeros or a final .0": _with_plain_numbers,
    "a folder in front": _without_folder,
    "file endings and upper and lower case": lambda name: _without_ending(name).casefold(),
    "a folder in front and file endings": lambda name: _without_ending(_without_folder(name)),
    "several differences": _in_all_ways,
}


def mismatch(names: Sequence[str], files: Iterable[str]) -> Mismatch:
    """Find the simplest difference between names in a table and names of files.

    Args:
        names: from the table, at least one; none of them is the name of a file.
        files: names of files.

    Returns:
        The difference that explains most names; simple ones are preferred.
    """
    files = list(files)
    best = Mismatch(names[0], files[0] if files else "", "")
    most = 0
    for cause, simplified in CAUSES.items():
        simple_files = set(map(simplified, files))
        alike = [name for name in names[:MAX_NAMES] if simplified(name) in simple_files]
        if len(alike) > most:
            most = len(alike)
            name = alike[0]
            same = [file for file in files if simplified(file) == simplified(name)]
            best = Mismatch(name, max(same, key=lambda file: _common_end(name, file)), cause)
    return best


def _common_end(name: str, file: str) -> int:
    """Return how many characters at the end are equal; slashes and backslashes are."""
    return len(os.path.commonprefix([_slashes(name)[::-1], file[::-1]]))


def files_below(folder: Path) -> list[str]:
    """Return the first files below a folder that can be images: paths from it, with slashes."""
    files: list[str] = []
    for current, folders, names in os.walk(folder):
        folders.sort()
        below = os.path.relpath(current, folder)
        files += [
            _slashes(os.path.normpath(os.path.join(below, name)))
            for name in sorted(names)
            if not name.startswith(".") and not name.lower().endswith(NO_IMAGES)
        ]
        if len(files) >= MAX_FILES:
            break
    return files
