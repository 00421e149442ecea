"""Provide the session API of NSML, the platform of the 2018 hackathon.

The names come from the platform's own `nsml` package if it is installed, and otherwise from
`session`, which does the same on this machine. Usage: `from delf_ext import nsml`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from delf_ext.nsml import session
from delf_ext.nsml.session import time_left_s

__all__ = [
    "DATASET_PATH",
    "IS_ON_NSML",
    "SESSION_NAME",
    "bind",
    "cache",
    "load",
    "paused",
    "report",
    "save",
    "time_left_s",
]


def _platform() -> ModuleType:
    """Return the platform's package `nsml`, or our `session` module.

    Our module is used in the sessions that our `nsml` command starts, and if no package `nsml` is
    installed. Our own shim and a folder without code are not the platform's package.
    """
    if session.IS_ON_NSML:
        return session
    spec = importlib.util.find_spec("nsml")
    if spec is None or spec.origin is None:
        return session
    if Path(spec.origin).parts[-2:] == ("shim", "nsml.py"):
        return session
    import nsml

    return nsml


_nsml = _platform()
IS_ON_NSML = _nsml.IS_ON_NSML
DATASET_PATH = _nsml.DATASET_PATH
SESSION_NAME = _nsml.SESSION_NAME
bind = _nsml.bind
save = _nsml.save
load = _nsml.load
paused = _nsml.paused
report = _nsml.report
# The published package nsml-local has no `cache`.
cache = getattr(_nsml, "cache", session.cache)
