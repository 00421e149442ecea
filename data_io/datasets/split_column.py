"""Read the column that says whether an image is for training, a query or in the gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_io.tables.spelling import nfkc, visible

# Words in the column, in any case.
WORDS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "query": ("query", "queries", "probe", "probes"),
    "gallery": ("gallery", "galleries", "reference", "references", "index", "database", "db"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
PART_OF = {word: part for part, words in WORDS.items() for word in words}
ACCEPTED = "train, query or gallery"


def is_row(cells: Mapping[str, str]) -> bool:
    """Return whether the cells of a line look like a row: its split is a known word."""
    return _plain(cells.get("split", "")) in PART_OF


def _plain(cell: str) -> str:
    return visible(nfkc(cell)).casefold()


def part_of(path: Path, line: int, cell: str) -> str:
    """Return which part of the data a word means.

    Args:
        path: the table, for messages.
        line: of the cell.
        cell: the word, in any case.

    Returns:
        train, query, gallery, val or test.

    Raises:
        ValueError: the word is unknown.
    """
    part = PART_OF.get(_plain(cell))
    if part is None:
        received = repr(cell) if cell else "nothing"
        raise ValueError(
            f"{path}, line {line}: column split must be {ACCEPTED} (or val, test beside them). "
            f"Received {received}."
        )
    return part


def roles_of(
    path: Path, parts: Sequence[str], query_split: str
) -> tuple[dict[str, str], list[str]]:
    """Choose the list for each part: val and test are queries if there are no others.

    With queries but no gallery, test is the gallery.

    Args:
        path: the table, for messages.
        parts: part of each row.
        query_split: "val" or "test", the queries if there are both.

    Returns:
        Part -> train, query or gallery, without the parts that are not used; and lines for the
        user.

    Raises:
        ValueError: there is val or test, but neither queries nor a gallery.
    """
    num_rows = Counter(parts)
    roles = {part: part for part in ("train", "query", "gallery") if num_rows[part]}
    held_out = [part for part in ("val", "test") if num_rows[part]]
    if not held_out:
        return roles, []
    if "query" in roles and "gallery" not in roles and "test" in held_out:
        roles["test"] = "gallery"
    elif "gallery" in roles and "query" not in roles:
        roles[held_out[0] if len(held_out) == 1 else query_split] = "query"
    elif "query" not in roles:
        raise ValueError(
            f"{path}: column split has {', '.join(dict.fromkeys(parts))}, which does not say what "
            "to search and where. Write query for the images to search with, and gallery for those "
            "to search in."
        )
    notes = [
        f"{path.name}: split {part} ({num_rows[part]} rows) is read as {roles[part]}"
        for part in held_out
        if part in roles
    ]
    notes += [
        f"{path.name}: split {part} ({num_rows[part]} rows) is not used"
        for part in held_out
        if part not in roles
    ]
    return roles, notes
