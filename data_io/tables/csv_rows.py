"""Read tables with a header in any usual spelling, and format CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from data_io.files.names import escaped
from data_io.tables.csv_columns import find_columns, places
from data_io.tables.csv_records import (
    SEPARATORS,
    Record,
    Records,
    any_swallowed,
    cells_of,
    open_quote,
    split_records,
)
from data_io.tables.text_files import LINE_END, read_text


class Table(NamedTuple):
    """A table that was read.

    Attributes:
        rows: (line number, cells by column); missing cells at the end of a line are empty.
        notes: lines for the user: separator, encoding, columns with other names, comments.
    """

    rows: list[tuple[int, dict[str, str]]]
    notes: list[str]


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as CSV with names as `escaped` writes them; lines end with a line feed."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(map(_cell, row) for row in rows)
    return text.getvalue()


def _cell(text: str) -> str:
    # The writer does not quote a carriage return, so a reader would see the end of the line.
    return escaped(text).replace("\r", r"\u000d")


def read_table(
    path: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    is_row: Callable[[dict[str, str]], bool] = lambda row: False,
) -> Table:
    """Read the lines below the header that are not blank.

    The separator is a comma, semicolon, tab or vertical bar; `read_text` finds the encoding.

    Args:
        path: the file.
        required: names of columns that must exist; `OTHER_NAMES` in csv_columns lists more names.
        optional: names of columns that can exist.
        is_row: whether a line in a cell of several lines is a row, given its cells by column. An
            open quote swallowed it then.

    Returns:
        The rows with the named columns.

    Raises:
        ValueError: a column is missing or doubled, or a line cannot be read; the message names the
            line.
    """
    content = read_text(path)

    def fit(cells: list[str]) -> int:
        return sum(bool(places(name, cells)) for name in required)

    table = split_records(path, content.text, fit)
    notes = []
    if all(len(record.cells) == 1 for record in table.records):
        # Some programs write each line as one cell in quotes.
        unquoted = "\n".join(record.cells[0] for record in table.records)
        inner = split_records(path, unquoted, fit)
        if inner.records and len(inner.records[0].cells) > 1:
            table = inner
            notes.append(f"{path.name}: each line is in quotes as a whole; they are left out")
    header = table.records[0].cells if table.records else []
    notes += _notes(path, content.encoding, table)
    place_of, column_notes = find_columns(path, header, required, optional)
    notes += column_notes
    for record in table.records:
        if any(is_row(row) for row in _inner_rows(record, place_of, table.separator)):
            raise ValueError(open_quote(path, record.line))
    rows = [
        (record.line, _named(path, record, header, place_of, required, table.separator))
        for record in table.records[1:]
    ]
    return Table(rows, notes)


def read_list(path: Path, num_cells: int) -> Table:
    """Read the lines of a list without a header that are not blank.

    Args:
        path: the file.
        num_cells: usual number of cells in a line; it decides about the separator.

    Returns:
        The rows; columns are numbered: "0", "1", ...

    Raises:
        ValueError: the file cannot be read, or a quote is not closed.
    """
    content = read_text(path)
    table = split_records(path, content.text, lambda cells: int(len(cells) == num_cells))
    rows = [
        (record.line, {str(place): cell for place, cell in enumerate(record.cells)})
        for record in table.records
    ]
    return Table(rows, _notes(path, content.encoding, table))


def _notes(path: Path, encoding: str, table: Records) -> list[str]:
    notes = []
    if table.separator != ",":
        name = SEPARATORS.get(table.separator, repr(table.separator))
        notes.append(f"{path.name}: cells are separated by {name}")
    if encoding != "utf-8":
        notes.append(f"{path.name}: read as {encoding}, as it is not UTF-8")
    if table.num_comments:
        notes.append(f"{path.name}: {table.num_comments} comment lines (#) left out")
    return notes


def _named(
    path: Path,
    record: Record,
    header: Sequence[str],
    place_of: dict[str, int],
    required: Sequence[str],
    separator: str,
) -> dict[str, str]:
    """Return the cells of a record by column.

    Raises:
        ValueError: it has too many or too few cells, or an open quote swallowed lines.
    """
    cells = record.cells
    while len(cells) > len(header) and not cells[-1]:
        cells = cells[:-1]
    used = [cells[place] for place in place_of.values() if place < len(cells)]
    if any_swallowed(used, separator):
        raise ValueError(open_quote(path, record.line))
    if len(cells) > len(header):
        name = {",": "comma", ";": "semicolon", "\t": "tab"}.get(separator, repr(separator))
        raise ValueError(
            f"{path}, line {record.line}: {_counted(len(cells))} for {len(header)} columns; "
            f"put a value with a {name} in quotes."
        )
    missing = [name for name in required if place_of[name] >= len(cells)]
    if missing:
        raise ValueError(
            f"{path}, line {record.line}: {_counted(len(cells))} for {len(header)} columns; "
            f"missing: {', '.join(missing)}."
        )
    names = dict(zip_longest(range(len(header)), cells, fillvalue=""))
    return {name: names[place] for name, place in place_of.items()}


def _inner_rows(
    record: Record, place_of: dict[str, int], separator: str
) -> Iterator[dict[str, str]]:
    """Yield the lines within cells that have enough cells for all columns, by column."""
    for text in record.cells:
        for line in LINE_END.split(text)[1:] if "\n" in text or "\r" in text else []:
            cells = cells_of(line, separator)
            if len(cells) > max(place_of.values()):
                yield {name: cells[place] for name, place in place_of.items()}


def _counted(num_cells: int) -> str:
    return f"{num_cells} cell{'s' if num_cells != 1 else ''}"
