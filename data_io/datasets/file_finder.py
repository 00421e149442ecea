"""Find the files that a table names, also if their names are written in another Unicode form."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from data_io.files.names import unescaped
from data_io.tables.spelling import nfc

Key = Callable[[str], str]
TURNED = "with / in place of \\"
OTHER_FORM = "in another Unicode normal form"


class Found(NamedTuple):
    """A file that a table names.

    Attributes:
        path: of the file as it is on disk.
        name: as in the table, with the separators of this system.
        how: what differs from the name in the table; "" if nothing does.
    """

    path: str
    name: str
    how: str


class FileFinder:
    """Find files relative to a folder; the content of each folder is listed once."""

    def __init__(self, folder: Path) -> None:
        """Start from a folder."""
        self.folder = folder
        self._entries: dict[tuple[str, Key], dict[str, list[str]]] = {}

    def find(self, name: str) -> Found | None:
        """Find a file.

        Names are compared exactly, then in Unicode normal form C, part by part. On systems whose
        separator is /, a backslash means the same.

        Args:
            name: path from the folder, or an absolute path.

        Returns:
            The file, or None if there is none.
        """
        for how, written in _spellings(name):
            exact = os.path.join(self.folder, written)
            if os.path.isfile(exact):
                return Found(_tidy(exact), written, how)
        for how, written in _spellings(name):
            path = self._walk(written, nfc)
            if path is not None:
                return Found(path, written, f"{how} and {OTHER_FORM}" if how else OTHER_FORM)
        return None

    def in_other_case(self, name: str) -> str | None:
        """Return the path of a file whose name differs in upper and lower case, or None."""
        return self._walk(name.replace("\\", "/"), _folded)

    def _walk(self, name: str, key: Key) -> str | None:
        """Follow a path part by part through entries with an equal key; return the file."""
        path = Path(os.path.normpath(os.path.join(self.folder, name)))
        base = self.folder if path.is_relative_to(self.folder) else Path(path.anchor)
        starts = [str(base)]
        for part in path.relative_to(base).parts:
            starts = [
                os.path.join(start, entry)
                for start in starts
                for entry in self._entries_like(start, part, key)
            ]
        return next((os.path.normpath(start) for start in starts if os.path.isfile(start)), None)

    def _entries_like(self, folder: str, part: str, key: Key) -> list[str]:
        """Return the entries of a folder with the key of a part of a path, sorted."""
        if part == os.pardir:
            return [part]
        entries = self._entries.get((folder, key))
        if entries is None:
            entries = self._entries.setdefault((folder, key), {})
            try:
                names = sorted(os.listdir(folder))
            except OSError:
                names = []
            for name in names:
                entries.setdefault(key(name), []).append(name)
        return entries.get(key(part), [])


def _tidy(path: str) -> str:
    """Return a path without `.` and `..`, unless links in it would give another file then."""
    tidy = os.path.normpath(path)
    if os.pardir in Path(path).parts and os.path.realpath(tidy) != os.path.realpath(path):
        return path
    return tidy


def place_of(path: str) -> str:
    """Return the path of a file in its real folder; the same for each spelling of the folder.

    A link to a file is another place than the file.
    """
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


def _folded(name: str) -> str:
    return nfc(name).casefold()


def _spellings(name: str) -> list[tuple[str, str]]:
    """Return (what differs, name) of the name, with turned backslashes, and without escapes."""
    spellings = [("", name)]
    if os.sep == "/" and "\\" in name:
        spellings.append((TURNED, name.replace("\\", "/")))
    if unescaped(name) != name:
        spellings.append(("", unescaped(name)))
    return spellings
