"""`nsml.cache`: what a preprocessing function writes is kept, and copied for the next run that asks for the same."""

from __future__ import annotations

import hashlib
import inspect
import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from delf_ext.nsml import store


def cached(
    function: Callable[..., object], outputs: list[str], dataset: Path, arguments: dict[str, Any]
) -> None:
    """Makes the files `outputs` by function(**arguments), or by copying what the same call wrote in an earlier run.

    The same: the function's name and source, what it is bound to or closes over, all arguments, and the data set as it was
    pushed; not the source of the functions that it calls. Where that cannot be told, or nothing can be kept, a warning says why
    and the function is called.
    Raises: ValueError when the function does not write what it should.
    """
    try:
        kept = store.home() / "cache" / _key(function, dataset, arguments)
    except Exception as error:  # no source, or whatever an argument raises that cannot be pickled
        warnings.warn(
            f"nsml.cache: called anew, since it cannot be told from other calls ({error}).",
            stacklevel=3,
        )
        kept = None
    if kept and kept.is_dir():
        for number, path in enumerate(outputs):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept / str(number), path)
        return
    function(**arguments)
    if missing := [path for path in outputs if not Path(path).is_file()]:
        raise ValueError(f"nsml.cache: {function.__name__} did not write {', '.join(missing)}.")
    if kept:
        _keep(outputs, kept)


def _key(function: Callable[..., object], dataset: Path, arguments: dict[str, Any]) -> str:
    state = inspect.getclosurevars(function).nonlocals, getattr(function, "__self__", None)
    pushed = str(dataset), dataset.stat().st_mtime_ns
    call = function.__qualname__, inspect.getsource(function), state, arguments, pushed
    return hashlib.sha256(pickle.dumps(call)).hexdigest()[:32]


def _keep(outputs: list[str], kept: Path) -> None:
    """Copies the files into a folder that appears whole or not at all."""
    copies = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        copies.mkdir(parents=True)
        for number, path in enumerate(outputs):
            shutil.copyfile(path, copies / str(number))
        os.rename(copies, kept)
    except OSError as error:
        if not kept.is_dir():  # where it is, another run was faster
            warnings.warn(f"nsml.cache: not kept for the next run ({error}).", stacklevel=4)
    finally:
        shutil.rmtree(copies, ignore_errors=True)
