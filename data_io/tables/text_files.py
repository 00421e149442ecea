"""Read text files as spreadsheets and scripts write them: in several encodings."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import NamedTuple

from data_io.tables.spelling import shortened

# UTF-32 first: its mark starts with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Files with the name of a table that are something else, by their first bytes.
NO_TEXT = {
    b"PK\x03\x04": "a zip file or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "a gzip file",
    b"%PDF": "a PDF",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
}
# Unix, Windows and old Mac.
LINE_END = re.compile("\r\n|\r|\n")
SHOWN_NAMES = {"cp1252": "Latin-1 (cp1252)", "latin-1": "Latin-1"}
NUM_PROBED = 64
"""Bytes that show whether a file without a mark is UTF-16."""


class Text(NamedTuple):
    """The text of a file.

    Attributes:
        text: with its own line ends.
        encoding: its name for messages; "utf-8" with and without a mark.
    """

    text: str
    encoding: str


def read_text(path: Path) -> Text:
    """Read a text file in UTF-8, UTF-16, UTF-32, cp949 (Korean Windows) or a Latin encoding.

    Args:
        path: the file.

    Returns:
        The text, and the encoding that fits it.

    Raises:
        ValueError: the file is no text, or is damaged; the message names the line.
    """
    content = path.read_bytes()
    for start, kind in NO_TEXT.items():
        if content.startswith(start):
            raise ValueError(f"{path}: {kind}, not a text; save the table as CSV UTF-8.")
    encoding = _encoding_of(content, path)
    try:
        text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: damaged {encoding} ({error.reason} at byte {error.start}); "
            "save it as CSV UTF-8."
        ) from None
    # A mark can be there twice, or be read in a wrong encoding. Old DOS programs end a file with
    # control-Z.
    text = text.lstrip("\ufeff").removeprefix("ï»¿").rstrip("\x1a")
    before, zero, _ = text.partition("\0")
    if zero:
        *earlier, last = LINE_END.split(before)
        raise ValueError(
            f"{path}, line {len(earlier) + 1}: a NUL byte after {shortened(last)!r}: the file is "
            "damaged. Write it again, or delete the byte."
        )
    return Text(text, SHOWN_NAMES.get(encoding, encoding))


def _encoding_of(content: bytes, path: Path) -> str:
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            return encoding
    probe = content[:NUM_PROBED]
    # In UTF-16 every second byte of a Latin header is zero.
    for encoding, zeros, others in (
        ("utf-16-le", probe[1::2], probe[::2]),
        ("utf-16-be", probe[::2], probe[1::2]),
    ):
        if zeros and zeros.count(0) > len(zeros) / 2 and not others.count(0):
            return encoding
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        _require_not_nearly_utf8(content, error, path)
        return _legacy_encoding(content)
    return "utf-8"


def _require_not_nearly_utf8(content: bytes, error: UnicodeDecodeError, path: Path) -> None:
    """Raise ValueError for UTF-8 with a few wrong bytes; another encoding would garble the rest."""
    text = content.decode("utf-8", errors="replace")
    num_wrong = text.count("\ufffd")
    num_right = sum(letter > "\x7f" for letter in text) - num_wrong
    if num_right > num_wrong:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: not UTF-8 ({error.reason} at byte {error.start}), "
            "although other lines are; save the table again as CSV UTF-8."
        )


def _legacy_encoding(content: bytes) -> str:
    """Return cp949 for Korean text, otherwise the Latin encoding that fits."""
    try:
        text = content.decode("cp949")
    except UnicodeDecodeError:
        pass
    else:
        # A Latin letter with an accent and the letter after it can be one Hangul syllable of the
        # extension of cp949. Real Korean text has mostly syllables of the older EUC-KR.
        foreign = [letter for letter in text if letter > "\x7f"]
        if sum(_is_in_euc_kr(letter) for letter in foreign) > len(foreign) / 2:
            return "cp949"
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def _is_in_euc_kr(letter: str) -> bool:
    return letter.encode("cp949")[-1] >= 0xA1
