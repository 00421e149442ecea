"""Format the tables, ages and sizes that the console command prints."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate
from wcwidth import wcswidth

# Limits of a cell's width in terminal columns. A Korean letter takes two columns.
MAX_CELL_WIDTH = 60
MIN_CELL_WIDTH = 16
# Used if the width of the terminal is unknown.
DEFAULT_TERMINAL_WIDTH = 120


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format an aligned table and cut long cells so that it fits the terminal.

    The first column is never cut, because its names are needed for the next command.

    Args:
        header: column names.
        rows: cells of each row, as many as there are column names.

    Returns:
        The table as text, without spaces at the ends of lines.

    >>> print(table(["Name", "Memo"], [["you/covers/1", "first try"], ["you/covers/12", ""]]))
    Name           Memo
    you/covers/1   first try
    you/covers/12
    """
    cells = [[printable(" ".join(str(cell).split())) for cell in row] for row in [header, *rows]]
    first, *others = (max(map(wcswidth, column)) for column in zip(*cells, strict=True))
    limit = _cell_width_limit(others, first)
    cells = [[row[0], *(_cut(cell, limit) for cell in row[1:])] for row in cells]
    text = tabulate(cells, tablefmt="plain", disable_numparse=True)
    return "\n".join(line.rstrip() for line in text.splitlines())


def printable(text: str) -> str:
    r"""Replace control characters by "?", because they could change the terminal's state.

    Args:
        text: any text.

    Returns:
        The text with as many letters as before.

    >>> printable("\x1b[31mred"), printable("첫 시도")
    ('?[31mred', '첫 시도')
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def ago(then: float) -> str:
    """Format the time since `then`.

    Args:
        then: Unix seconds.

    Returns:
        The time in its largest unit.

    >>> [ago(time.time() - seconds) for seconds in (30, 70, 7300, 172801)]
    ['just now', '1 minute ago', '2 hours ago', '2 days ago']
    """
    seconds = time.time() - then
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def size(num_bytes: float) -> str:
    """Format a number of bytes.

    Args:
        num_bytes: number of bytes.

    Returns:
        The number in B, KB, MB or GB.

    >>> size(900), size(94_371_840)
    ('900 B', '90.0 MB')
    """
    unit = "B"
    for larger_unit in ("KB", "MB", "GB"):
        if num_bytes >= 1024:
            num_bytes /= 1024
            unit = larger_unit
    return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"


def summary(reported: Mapping[str, Any]) -> str:
    """Format the values of a report.

    Args:
        reported: values by name.

    Returns:
        One line with all names and values.

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


def _cell_width_limit(widths: Sequence[int], first_width: int) -> int:
    """Return the largest cell width at which all columns fit the terminal."""
    terminal_width = shutil.get_terminal_size((DEFAULT_TERMINAL_WIDTH, 0)).columns
    available = terminal_width - first_width - 2 * len(widths)
    limit = MAX_CELL_WIDTH
    while limit > MIN_CELL_WIDTH and sum(min(width, limit) for width in widths) > available:
        limit -= 1
    return limit


def _cut(text: str, limit: int) -> str:
    """Cut a text to a width in terminal columns; "…" marks the cut."""
    if wcswidth(text) <= limit:
        return text
    text = text[:limit]
    while wcswidth(text) >= limit:
        text = text[:-1]
    return text + "…"
