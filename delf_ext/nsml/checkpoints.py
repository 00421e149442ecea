"""Write and read checkpoints: the folder that a user's `save` filled, and a note about it."""

from __future__ import annotations

import inspect
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_io.files.artifacts import write_json
from delf_ext.nsml import store


def write(above: Path, name: str, function: Callable[[str], Any], summary: dict[str, Any]) -> None:
    """Write a checkpoint: `above/name/model/`, filled by `function`, and `checkpoint.json`.

    A checkpoint of the same name is replaced by two renames when the new one is complete. Only if
    the process is killed between them, the earlier one is left as `.NAME.earlier`.

    Args:
        above: folder of the session's checkpoints.
        name: name of the checkpoint.
        function: writes the model to the folder that it is given.
        summary: values last reported, kept in the note.

    Raises:
        ValueError: The name is not valid.
        OSError: The disk is full. Nothing has changed then, nor if `function` raises an error.
    """
    target = above / store.checked(name, "checkpoint")
    new = above / f".{name}.new"
    model = new / "model"
    earlier = above / f".{name}.earlier"
    # A process that was killed while saving may have left it.
    shutil.rmtree(new, ignore_errors=True)
    try:
        model.mkdir(parents=True)
        started = time.time()
        function(str(model))
        saved = time.time()
        size = sum(path.lstat().st_size for path in model.rglob("*") if path.is_file())
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
    """Call a user's `load` function with the folder of a checkpoint.

    The official Keras baseline has `load(file_path)`: it gets the file that its `save` wrote.

    Args:
        model: folder that `write` had filled.
        function: the user's `load`.
    """
    files = [path for path in model.iterdir() if path.is_file()]
    wants_file = next(iter(inspect.signature(function).parameters), "") == "file_path"
    function(str(files[0] if wants_file and len(files) == 1 else model))
