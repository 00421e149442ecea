"""Find the columns of a table by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from data_io.tables.spelling import nfkc, shortened, visible

# Names of columns that mean the same; case, spaces, _ and - do not count.
OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "path": (
        *("file", "file_name", "file_path", "image", "image_name", "image_path", "image_file"),
        *("img", "img_path", "photo"),
    ),
    "label": (
        *("class", "class_name", "class_id", "category", "category_id", "label_name", "label_id"),
        *("product", "product_id", "product_name", "target", "item_id"),
    ),
    "split": ("subset", "set", "partition"),
    "id": ("image_id", "image", "image_name", "file", "file_name", "name", "path"),
}
NUM_SHOWN = 12
"""Number of columns that a message names."""


def find_columns(
    path: Path, header: Sequence[str], required: Sequence[str], optional: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Return the place of each column, and lines for the user.

    Args:
        path: the table, for messages.
        header: cells of its first line.
        required: names of columns that must exist.
        optional: names of columns that can exist.

    Returns:
        Column -> its place in the header, and a line for each column with another name.

    Raises:
        ValueError: a required column is missing, or several can be one column.
    """
    place_of: dict[str, int] = {}
    notes: list[str] = []
    for name in (*required, *optional):
        found = places(name, header)
        if len(found) > 1:
            names = ", ".join(header[place] for place in found)
            raise ValueError(
                f"{path}: {len(found)} columns can be the column {name}: {names}. "
                f"Keep one, or name one of them {name} and rename the others."
            )
        if found:
            place_of[name] = found[0]
            if _plain(header[found[0]]) != _plain(name):
                notes.append(f"{path.name}: column {header[found[0]]} is read as {name}")
    _require_columns(path, header, [name for name in required if name not in place_of])
    return place_of, notes


def _plain(name: str) -> str:
    """Return the name of a column without case, white space, _ - . and invisible characters."""
    return re.sub(r"[\s_.-]+", "", visible(nfkc(name)).casefold())


def places(name: str, header: Sequence[str]) -> list[int]:
    """Return the places of a column: those of its name, otherwise those of its other names."""
    plain = [_plain(cell) for cell in header]
    own = [place for place, cell in enumerate(plain) if cell == _plain(name)]
    others = set(map(_plain, OTHER_NAMES.get(name, ())))
    return own or [place for place, cell in enumerate(plain) if cell in others]


def _require_columns(path: Path, header: Sequence[str], missing: Sequence[str]) -> None:
    """Raise ValueError if columns are missing; say what was found and which names are known."""
    if not missing:
        return
    found = ", ".join(shortened(cell, 60) for cell in header[:NUM_SHOWN]) or "nothing"
    known = "; ".join(
        " or ".join((name, *OTHER_NAMES[name])) for name in missing if name in OTHER_NAMES
    )
    raise ValueError(
        f"{path}: no column {', '.join(missing)}. "
        f"The first line must name the columns; found {found}."
        + (f" Known names: {known}." if known else "")
    )
