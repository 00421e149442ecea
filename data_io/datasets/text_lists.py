"""Read the text files of published data sets, with values between blanks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_io.tables.text_files import LINE_END, read_text


def text_rows(path: Path, num_values: int, num_headers: int = 0) -> Iterator[list[str]]:
    """Yield the values of each line that is not blank.

    Args:
        path: the file.
        num_values: values in a line.
        num_headers: lines to leave out at the start.

    Yields:
        The values of a line.

    Raises:
        ValueError: there is no such file, or a line has another number of values.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not found. Unpack the data set again, or leave its layout out.")
    for line, text in enumerate(LINE_END.split(read_text(path).text), start=1):
        values = text.split()
        if line <= num_headers or not values:
            continue
        if len(values) != num_values:
            raise ValueError(
                f"{path}, line {line}: expected {num_values} values. Received {text!r}."
            )
        yield values
