"""Read and format CSV, the first line of which names the columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from data_io.names import escaped


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as CSV with names as `escaped` writes them; lines end with a line feed."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(map(_cell, row) for row in rows)
    return text.getvalue()


def _cell(text: str) -> str:
    # The writer does not quote a carriage return, so a reader would see the end of the line.
    return escaped(text).replace("\r", r"\u000d")


def csv_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Read the lines below the header that are not blank.

    Args:
        path: the file, in UTF-8.
        required: names of columns that must exist.

    Yields:
        (line number, cells by column).

    Raises:
        ValueError: a column is missing, or a line cannot be read; the message names the line.
    """
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header = [name.strip() for name in next(reader, [])]
            missing = ", ".join(name for name in required if name not in header)
            if missing:
                found = ", ".join(header) or "nothing"
                raise ValueError(
                    f"{path}: no column {missing}. "
                    f"The first line must name the columns; found {found}."
                )
            for cells in reader:
                if len(cells) > len(header):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells for "
                        f"{len(header)} columns; put a value with a comma in quotes."
                    )
                if any(cell.strip() for cell in cells):
                    named = zip_longest(header, cells, fillvalue="")
                    yield reader.line_num, {name: cell.strip() for name, cell in named}
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {reader.line_num}: not readable as CSV ({error})."
            ) from None
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as CSV UTF-8."
            ) from None
