"""A checkpoint: the folder that a user's `save` wrote, and a note about it; there as a whole or not at all."""

from __future__ import annotations

import inspect
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_io.artifacts import write_json
from delf_ext.nsml import store


def write(above: Path, name: str, function: Callable[[str], Any], summary: dict[str, Any]) -> None:
    """above/name: what function(folder) writes in model/, and checkpoint.json.

    One of the same name gives way when the new one is whole, by two renames: only a kill between them leaves it as
    `.NAME.earlier`. Raises: ValueError when it is no name; what the function raises, and OSError on a full disk: then nothing
    has changed.
    """
    target = above / store.checked(name, "checkpoint")
    new, earlier = above / f".{name}.new", above / f".{name}.earlier"
    shutil.rmtree(new, ignore_errors=True)  # of a process that was killed while it saved
    try:
        (new / "model").mkdir(parents=True)
        started = time.time()
        function(str(new / "model"))
        saved = time.time()
        size = sum(path.lstat().st_size for path in (new / "model").rglob("*") if path.is_file())
        note = {
            "iteration": name,
            "saved": saved,
            "seconds": saved - started,
            "summary": summary,
            "bytes": size,
        }
        write_json(new / "checkpoint.json", note)
        shutil.rmtree(earlier, ignore_errors=True)
        if target.exists():
            os.replace(target, earlier)
        os.replace(new, target)
        shutil.rmtree(earlier, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def read(model: Path, function: Callable[[str], Any]) -> None:
    """function(model); but the official baseline's load(file_path) wants the one file that its `save` wrote there."""
    files = [path for path in model.iterdir() if path.is_file()]
    wants_file = next(iter(inspect.signature(function).parameters), "") == "file_path"
    function(str(files[0] if wants_file and len(files) == 1 else model))
