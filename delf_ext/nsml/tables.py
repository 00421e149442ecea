"""What the console command prints: tables, ages and sizes in words."""

from __future__ import annotations

import shutil
import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

WIDEST, NARROWEST = 60, 16  # columns of a cell, as the terminal allows; a Korean letter takes two
COLUMNS = 120  # where no terminal says


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; cells on one line, the longest cut to fit the terminal, but for the first: the next command needs it.

    >>> print(table(["Name", "Description"], [["you/covers/1", "first try"], ["you/covers/12", ""]]))
    Name           Description
    you/covers/1   first try
    you/covers/12
    """
    cells = [[printable(" ".join(cell.split())) for cell in row] for row in [header, *rows]]
    first, *others = (max(map(_width, column)) for column in zip(*cells, strict=True))
    room = shutil.get_terminal_size((COLUMNS, 0)).columns - first - 2 * len(others)
    fits = (
        widest
        for widest in range(WIDEST, NARROWEST, -1)
        if sum(min(width, widest) for width in others) <= room
    )
    widest = next(fits, NARROWEST)
    cells = [[row[0], *(_cut(cell, widest) for cell in row[1:])] for row in cells]
    widths = [first, *(min(width, widest) for width in others)]
    lines = [
        "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def printable(text: str) -> str:
    """Without what would do something to a terminal.

    >>> printable("\x1b[31mred"), printable("첫 시도")
    ('?[31mred', '첫 시도')
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def ago(then: float, now: float | None = None) -> str:
    """Unix seconds in words.

    >>> ago(100, now=130), ago(100, now=170), ago(0, now=7300), ago(0, now=172800)
    ('just now', '1 minute ago', '2 hours ago', '2 days ago')
    """
    seconds = (time.time() if now is None else now) - then
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def size(num_bytes: float) -> str:
    """
    >>> size(900), size(94_371_840)
    ('900 B', '90.0 MB')
    """
    unit = "B"
    for larger in ("KB", "MB", "GB"):
        if num_bytes >= 1024:
            num_bytes, unit = num_bytes / 1024, larger
    return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"


def summary(reported: Mapping[str, Any]) -> str:
    """What a session last reported, on one line.

    >>> summary({"epoch": 3, "epoch_total": 10, "train/loss": 0.123456, "step": 300})
    'epoch 3/10, train/loss 0.1235, step 300'
    """
    values = {
        name: f"{value:.4g}" if isinstance(value, float) else str(value)
        for name, value in reported.items()
    }
    if "epoch" in values and "epoch_total" in values:
        values["epoch"] += f"/{values.pop('epoch_total')}"
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _cut(text: str, widest: int) -> str:
    if _width(text) <= widest:
        return text
    text = text[:widest]
    while _width(text) >= widest:
        text = text[:-1]
    return text + "…"
