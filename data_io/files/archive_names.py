"""Decode the names in a zip archive, and refuse those that leave the folder."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple

UTF8_BIT = 0x800
UNICODE_PATH = 0x7075
"""Extra field in which some programs store the name as UTF-8."""
MADE_ON_DOS = 0


class NamedEntry(NamedTuple):
    """An entry of an archive and its decoded name, with slashes."""

    info: zipfile.ZipInfo
    name: str


def named_entries(infos: Sequence[zipfile.ZipInfo]) -> tuple[list[NamedEntry], list[str]]:
    """Decode the names of all entries.

    A name is UTF-8 if the archive says so. The others have one encoding for the archive: UTF-8 if
    all of them are valid UTF-8, else cp949 if they read as Hangul, else cp437.

    Args:
        infos: the entries, as zipfile reads them.

    Returns:
        The entries, and a line for the user if the encoding had to be guessed.
    """
    raw = [_raw_name(info) for info in infos]
    guessed = encoding_of([name for name in raw if isinstance(name, bytes)])
    names = [name if isinstance(name, str) else name.decode(guessed) for name in raw]
    entries = [
        NamedEntry(info, _with_slashes(info, name)) for info, name in zip(infos, names, strict=True)
    ]
    is_ascii = all(isinstance(name, str) or name.isascii() for name in raw)
    notes = [] if is_ascii else [f"names in the archive are read as {guessed}"]
    return entries, notes


def encoding_of(names: Sequence[bytes]) -> str:
    """Guess the common encoding of file names.

    Args:
        names: the names as they are stored.

    Returns:
        "utf-8", "cp949" or "cp437".

    >>> encoding_of(["사과.jpg".encode("cp949")]), encoding_of(["é.jpg".encode("cp437")])
    ('cp949', 'cp437')
    """
    for encoding in ("utf-8", "cp949"):
        try:
            text = "".join(name.decode(encoding) for name in names)
        except UnicodeDecodeError:
            continue
        if encoding == "utf-8" or _is_hangul(text):
            return encoding
    return "cp437"


def unsafe_reason(name: str) -> str:
    """Return why an entry must not be written, "" if it may be.

    Args:
        name: name of the entry.

    Returns:
        The reason.

    >>> unsafe_reason("a/1.jpg"), unsafe_reason("../1.jpg")
    ('', 'its name leaves the archive')
    """
    windows = PureWindowsPath(name)
    if name.startswith("/") or windows.drive or windows.root or ".." in PurePosixPath(name).parts:
        return "its name leaves the archive"
    return "its name is empty" if not PurePosixPath(name).parts or "\0" in name else ""


def _raw_name(info: zipfile.ZipInfo) -> str | bytes:
    """Return a name as text if the archive names its encoding, else as bytes."""
    if info.flag_bits & UTF8_BIT:
        return info.orig_filename
    raw = info.orig_filename.encode("cp437")
    return _unicode_path(info.extra) or raw


def _unicode_path(extra: bytes) -> str:
    while len(extra) >= 4:
        kind = int.from_bytes(extra[:2], "little")
        size = int.from_bytes(extra[2:4], "little")
        # One byte for the version, four for the checksum of the other name.
        if kind == UNICODE_PATH and size > 5:
            return extra[9 : 4 + size].decode("utf-8", errors="replace")
        extra = extra[4 + size :]
    return ""


def _with_slashes(info: zipfile.ZipInfo, name: str) -> str:
    # A program on Windows may separate folders by backslashes; elsewhere they belong to the name.
    is_windows = info.create_system == MADE_ON_DOS and "/" not in name
    return name.replace("\\", "/") if is_windows else name


def _is_hangul(text: str) -> bool:
    """Return whether most letters beyond ASCII are common Hangul."""
    letters = [letter for letter in text if not letter.isascii()]
    # Bytes of other encodings that happen to be valid give syllables that Korean hardly uses.
    common = [letter for letter in letters if "가" <= letter <= "힣" and _is_common(letter)]
    return 2 * len(common) > len(letters)


def _is_common(letter: str) -> bool:
    try:
        letter.encode("euc_kr")
    except UnicodeEncodeError:
        return False
    return True
