"""How far long work has come: a bar on a terminal; elsewhere a line now and then, which a log can hold."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import StringIO

from tqdm import tqdm

Log = Callable[[str], None]
"""Is called with each line worth reading."""
QUIET_S = 30.0  # before the first line where there is no terminal, and between two


def quiet(line: str) -> None:
    """Ignore a line of the log."""


def say(line: str) -> None:
    """Print a line at once, so that a log has it in time."""
    print(line, flush=True)


def progress(total: int, what: str, unit: str = "image") -> tqdm:
    """`update` it by what is done; used as a context. Rate and time left are in it."""
    if sys.stderr.isatty():
        return tqdm(total=total, desc=what, unit=unit, disable=not total)
    lines = dict(file=_Lines(), delay=QUIET_S, mininterval=QUIET_S, miniters=1, ncols=0)
    return tqdm(total=total, desc=what, unit=unit, disable=not total, **lines)


class _Lines(StringIO):
    """Each state of a bar that is written to it is printed as a line, the last one once."""

    shown = ""

    def write(self, text: str) -> int:
        if text.strip() not in ("", self.shown):
            self.shown = text.strip()
            print(self.shown, flush=True)
        return len(text)
