"""Refuse a table that names few of the files; count those that are missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_io.datasets.mismatch import files_below, mismatch
from data_io.spelling import shortened

ENOUGH = 0.5
"""Share of the files that must exist."""


def missing_notes(
    table: Path, split: str, names: Sequence[str], missing: Sequence[str]
) -> Iterator[str]:
    """Yield a line that counts missing files.

    Args:
        table: the file that names them.
        split: which of its lists is meant, for messages.
        names: all files of the list.
        missing: those that were not found.

    Yields:
        Nothing if no file is missing.

    Raises:
        ValueError: more than half of the files are missing.
    """
    if not missing:
        return
    num_found = len(names) - len(missing)
    if num_found >= ENOUGH * len(names):
        yield (
            f"{table.name}: {len(missing)} of {len(names)} {split} files were not found, such as "
            f"{shortened(missing[0])}"
        )
        return
    found = "none" if not num_found else f"only {num_found}"
    raise ValueError(
        f"{table}: {found} of the {len(names)} {split} files exist. {_why(table, missing)}"
    )


def _why(table: Path, missing: Sequence[str]) -> str:
    """Return one of the names, one of the files, and the likely cause."""
    if sum(map(os.path.isfile, missing)) > len(missing) / 2:
        return (
            f"{shortened(missing[0])!r} is relative to the current folder; write paths relative to "
            "the folder of the table."
        )
    difference = mismatch(missing, files_below(table.parent))
    return f"{difference} Paths are relative to the folder of the table."
