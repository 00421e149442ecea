"""The `nsml` package of the platform, or of its stand-in's sessions; without either the run is an ordinary one."""

from __future__ import annotations

from typing import Any

try:
    from nsml import DATASET_PATH, IS_ON_NSML, bind, paused, report, save
except ImportError:
    DATASET_PATH, IS_ON_NSML = "", False

    def bind(**functions: Any) -> None: ...

    def paused(scope: Any = None) -> None: ...

    def report(**values: Any) -> None: ...

    def save(iteration: Any) -> None: ...
