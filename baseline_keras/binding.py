"""Import the session functions of NSML, or define them as empty functions outside NSML."""

from __future__ import annotations

from typing import Any

try:
    from nsml import DATASET_PATH, IS_ON_NSML, bind, paused, report, save
except ImportError:
    DATASET_PATH = ""
    IS_ON_NSML = False

    def bind(**functions: Any) -> None:
        """Do nothing outside NSML."""

    def paused(scope: Any = None) -> None:
        """Do nothing outside NSML."""

    def report(**values: Any) -> None:
        """Do nothing outside NSML."""

    def save(iteration: Any) -> None:
        """Do nothing outside NSML."""
