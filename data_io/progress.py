"""Show the progress of long work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import StringIO
from typing import Any

from tqdm import tqdm

Log = Callable[[str], None]
"""Function that is called with each line of the log."""
# Seconds before the first line in a log, and between two lines.
QUIET_S = 30.0


def quiet(line: str) -> None:
    """Ignore a line of the log."""


def say(line: str) -> None:
    """Print a line and flush it, so that a log shows it immediately."""
    print(line, flush=True)


def progress(total: int, description: str, unit: str = "image") -> tqdm:
    """Return a progress display; use it in a `with` block and call `update` on it.

    Args:
        total: number of images, or of other units.
        description: of the work.
        unit: what is counted.

    Returns:
        The display; it also shows the rate and the remaining time.
    """
    lines: dict[str, Any] = {}
    if not sys.stderr.isatty():
        lines = dict(file=_LinePrinter(), delay=QUIET_S, mininterval=QUIET_S, miniters=1, ncols=0)
    return tqdm(total=total, desc=description, unit=unit, disable=not total, **lines)


class _LinePrinter(StringIO):
    """File that prints each state of a progress bar as a line, without repetition."""

    last_line = ""

    def write(self, text: str) -> int:
        if text.strip() not in ("", self.last_line):
            self.last_line = text.strip()
            print(self.last_line, flush=True)
        return len(text)
