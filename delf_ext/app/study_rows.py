"""Keep the rows of a study in a JSON file, so that a second call continues or prints at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from data_io.files.artifacts import one_line, read_json, write_json
from data_io.files.marks import marked
from data_io.messages import shown_path
from data_io.progress import Log
from delf_ext.evaluation.trunk_table import TrunkRow

FORMAT = 1
"""Changes if rows are measured in another way: older ones are then measured again."""


class StudyRows:
    """Rows by a key that changes with data, model, runtime and machine."""

    def __init__(self, path: Path, log: Log) -> None:
        """Open a file of rows.

        Args:
            path: the JSON file; it need not exist.
            log: called with one line if the file is damaged.
        """
        self.path = path
        self.log = log

    def read(self) -> dict[str, TrunkRow]:
        """Return all rows; those of another format or a damaged file are left out."""
        if not self.path.exists():
            return {}
        try:
            stored = read_json(self.path)["rows"]
            return {key: _row(value) for key, value in stored.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            path = shown_path(self.path)
            self.log(f"{path}: damaged ({one_line(error)}); its rows are measured again")
            return {}

    def add(self, new: dict[str, TrunkRow]) -> None:
        """Write rows beside those that are there, also by another process."""
        rows = self.read() | new
        values = {key: dataclasses.asdict(row) for key, row in rows.items()}
        write_json(self.path, marked({"rows": values}))


def _row(value: dict[str, Any]) -> TrunkRow:
    per_query = ("average_precisions", "recalls_at_1")
    return TrunkRow(**(value | {name: tuple(value[name]) for name in per_query}))
