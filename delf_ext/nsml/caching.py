"""Keep the files that a preprocessing function wrote, and copy them if it is called again."""

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
    """Create the files `outputs` by a call of `function`, or copy them from an earlier same call.

    Two calls are the same if these are equal: name and source of the function, the object it is
    bound to, the variables it closes over, all arguments, and the data set with the time at which
    it was pushed. The source of the functions that it calls is not compared. If calls cannot be
    compared, or the files cannot be kept, a warning says why and the function is called.

    Args:
        function: called as function(**arguments); writes the files `outputs`.
        outputs: paths of the files.
        dataset: folder of the data set.
        arguments: keyword arguments of the function.

    Raises:
        ValueError: The function did not write one of the files.
    """
    try:
        kept = store.home() / "cache" / _key(function, dataset, arguments)
    except Exception as error:
        # The source may be missing, and pickling an argument may raise anything.
        warnings.warn(
            f"nsml.cache: the call is not cached, because its function or arguments cannot be "
            f"compared with those of other calls ({error}).",
            stacklevel=3,
        )
        kept = None
    if kept and kept.is_dir():
        for number, path in enumerate(outputs):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept / str(number), path)
        return
    function(**arguments)
    missing = [path for path in outputs if not Path(path).is_file()]
    if missing:
        raise ValueError(f"nsml.cache: {function.__name__} did not write {', '.join(missing)}.")
    if kept:
        _keep(outputs, kept)


def _key(function: Callable[..., object], dataset: Path, arguments: dict[str, Any]) -> str:
    state = (inspect.getclosurevars(function).nonlocals, getattr(function, "__self__", None))
    pushed = (str(dataset), dataset.stat().st_mtime_ns)
    call = (function.__qualname__, inspect.getsource(function), state, arguments, pushed)
    return hashlib.sha256(pickle.dumps(call)).hexdigest()[:32]


def _keep(outputs: list[str], kept: Path) -> None:
    """Copy the files to a hidden folder, and rename it to `kept` when all are there."""
    copies = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        copies.mkdir(parents=True)
        for number, path in enumerate(outputs):
            shutil.copyfile(path, copies / str(number))
        os.rename(copies, kept)
    except OSError as error:
        # If the folder exists, another session made the same call at the same time.
        if not kept.is_dir():
            warnings.warn(f"nsml.cache: the files cannot be kept ({error}).", stacklevel=4)
    finally:
        shutil.rmtree(copies, ignore_errors=True)
