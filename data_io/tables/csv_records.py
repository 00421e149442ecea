"""Split the text of a table into cells: find the separator, the first record and open quotes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# The csv module stops at 128 KB, but a description can be longer.
LARGEST_CELL = 2**31 - 1
# Excel's first line that names the separator.
EXCEL_MARK = "sep="
END_IN_QUOTES = "unexpected end of data"
"""Message of the csv module for a quote that is open at the end of the file."""

Fit = Callable[[list[str]], int]
"""Score: how well the cells of the first record fit; more is better."""


class Record(NamedTuple):
    """One record of a table; a cell in quotes can have line breaks.

    Attributes:
        line: number of its first line in the file, from 1.
        cells: without white space around them.
    """

    line: int
    cells: list[str]


class Records(NamedTuple):
    """The records of a table.

    Attributes:
        separator: the character between cells.
        records: those that have text; the first one can be a header.
        num_comments: lines that were left out because they are comments.
    """

    separator: str
    records: list[Record]
    num_comments: int


def split_records(path: Path, text: str, fit: Fit) -> Records:
    """Split a text into records.

    A line that starts with # is a comment if it is above the first record, or if it has not as many
    cells as the first record.

    Args:
        path: the file, for messages.
        text: its content.
        fit: the separator for which the first record fits best is taken.

    Returns:
        The records.

    Raises:
        ValueError: a quote is not closed; the message names the line.
    """
    csv.field_size_limit(LARGEST_CELL)
    lines = list(io.StringIO(text, newline=""))
    start, separators, num_comments = _start_of(lines, fit)
    separator = max(separators, key=lambda candidate: _fit_of(lines[start:], candidate, fit))
    records = _read(path, lines, start, separator)
    kept = [record for record in records if any(record.cells)]
    if kept and kept[0].cells[0].startswith("#"):
        kept[0].cells[0] = kept[0].cells[0].lstrip("# ")
    is_record = [
        not record.cells[0].startswith("#") or len(record.cells) == len(kept[0].cells)
        for record in kept
    ]
    num_comments += is_record.count(False)
    kept = [record for record, is_kept in zip(kept, is_record, strict=True) if is_kept]
    return Records(separator, kept, num_comments)


def _start_of(lines: Sequence[str], fit: Fit) -> tuple[int, Sequence[str], int]:
    """Return the row of the first record, the possible separators, and the number of comments."""
    separators: Sequence[str] = tuple(SEPARATORS)
    num_comments = 0
    for row, line in enumerate(lines):
        mark = line.strip().strip('"')
        if mark.lower().startswith(EXCEL_MARK) and len(mark) <= len(EXCEL_MARK) + 1:
            separators = mark[len(EXCEL_MARK) :] or "\t"
        elif mark.startswith("#"):
            # Some programs write the header as a comment.
            header = [mark.lstrip("# ")]
            if max(_fit_of(header, separator, fit)[0] for separator in separators) > 1:
                return row, separators, num_comments
            num_comments += 1
        elif mark:
            return row, separators, num_comments
    return len(lines), separators, num_comments


def _fit_of(lines: Sequence[str], separator: str, fit: Fit) -> tuple[int, int]:
    """Return how well the first record fits with a separator, and its number of cells."""
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    cells = [cell.strip().lstrip("# ") for cell in next(reader, [])]
    return fit(cells), len(cells)


def _read(path: Path, lines: Sequence[str], start: int, separator: str) -> list[Record]:
    """Return the records from a row on.

    Text between a closing quote and the separator belongs to the cell, as spreadsheets read it, but
    only if the record is one line: otherwise an open quote swallowed the lines before.

    Raises:
        ValueError: a quote is not closed.
    """
    records: list[Record] = []
    rest = iter(lines[start:])
    begin = start + 1
    while True:
        first = begin
        reader = csv.reader(rest, delimiter=separator, skipinitialspace=True, strict=True)
        try:
            for cells in reader:
                records.append(Record(begin, [cell.strip() for cell in cells]))
                begin = first + reader.line_num
        except csv.Error as error:
            end = first + reader.line_num
            if str(error) == END_IN_QUOTES or end > begin + 1:
                raise ValueError(open_quote(path, begin)) from None
            records.append(Record(begin, cells_of(lines[begin - 1], separator)))
            begin = end
        else:
            return records


def cells_of(line: str, separator: str) -> list[str]:
    """Return the cells of a record of one line."""
    reader = csv.reader([line], delimiter=separator, skipinitialspace=True)
    return [cell.strip() for cell in next(reader, [])]


def any_swallowed(cells: Sequence[str], separator: str) -> bool:
    """Return whether a cell has a line break and a separator: an open quote swallowed a line."""
    return any(separator in cell and ("\n" in cell or "\r" in cell) for cell in cells)


def open_quote(path: Path, line: int) -> str:
    """Return the message for a quote that is not closed."""
    return (
        f'{path}, line {line}: a quote (") is opened here and not closed, so the lines below it '
        "are read as one cell; close it or delete it."
    )
