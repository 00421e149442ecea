"""Provide what user code imports as `nsml`; outside a session, the functions do nothing.

The process that starts a session describes it in environment variables. The interface is the one
that the platform published in 2018:

    # save(folder), load(folder), infer(query_paths, reference_paths)
    nsml.bind(save=save, load=load, infer=infer)
    if args.pause:
        # A fork loads its checkpoint here and continues. A submission answers and ends here.
        nsml.paused(scope=locals())
    nsml.report(summary=True, epoch=1, epoch_total=10, loss=0.5, acc=0.9)
    nsml.save(1)
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import numbers
import os
import reprlib
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_io.files.artifacts import atomic_path
from data_io.files.names import escaped_values
from delf_ext.nsml import checkpoints, store
from delf_ext.nsml.caching import cached
from delf_ext.nsml.curves import Curves, last_summary

__all__ = ["DATASET_NAME", "DATASET_PATH", "GPU_NUM", "HAS_DATASET", "IS_ON_NSML", "SESSION_NAME"]
__all__ += ["bind", "cache", "load", "paused", "report", "save", "time_left_s"]

FOLDER = Path(os.environ.get("NSML_SESSION_DIR", ""))
IS_ON_NSML = "NSML_SESSION_DIR" in os.environ
SESSION_NAME = os.environ.get("NSML_SESSION_NAME", "")
DATASET_PATH = os.environ.get("NSML_DATASET_PATH", "")
DATASET_NAME = os.environ.get("NSML_DATASET_NAME", "")
HAS_DATASET = bool(DATASET_PATH)
GPU_NUM = int(os.environ.get("NSML_GPU_NUM", 0))

# The bound functions by name, and `pid`: the process that bound them.
_bound: dict[str, Any] = {}


def bind(
    save: Callable[..., Any] | None = None,
    load: Callable[..., Any] | None = None,
    infer: Callable[..., Any] | None = None,
    **others: Any,
) -> None:
    """Set the functions that save, load and answer; a later call replaces earlier functions.

    Args:
        save: called as save(folder); writes the model.
        load: called as load(folder); reads the model.
        infer: called as infer(query_paths, reference_paths); returns the answer.
        **others: settings of the platform's own `save` and `load`; ignored.
    """
    functions = {"save": save, "load": load, "infer": infer}
    _bound.update({name: function for name, function in functions.items() if function})
    _bound["pid"] = os.getpid()


def save(iteration: Any = None, save_fn: Callable[..., Any] | None = None) -> None:
    """Save a checkpoint; one of the same name is replaced when the new one is complete.

    Args:
        iteration: name of the checkpoint; the present time by default.
        save_fn: used instead of the bound `save`.
    """
    if not IS_ON_NSML:
        return
    name = time.strftime("%Y%m%d_%H%M%S") if iteration is None else str(iteration)
    function = save_fn or _function("save")
    checkpoints.write(FOLDER / "checkpoints", name, function, last_summary(FOLDER))


def load(
    iteration: Any, load_fn: Callable[..., Any] | None = None, session: str | None = None
) -> None:
    """Load a checkpoint.

    Args:
        iteration: name of the checkpoint.
        load_fn: used instead of the bound `load`.
        session: name of the session that saved it; this session by default.

    Raises:
        ValueError: There is no such checkpoint.
    """
    if not IS_ON_NSML:
        return
    folder = store.find_checkpoint(session or SESSION_NAME, str(iteration))
    checkpoints.read(folder / "model", load_fn or _function("load"))


def report(summary: bool = False, scope: Any = None, **values: Any) -> None:
    """Store values for TensorBoard. If the disk is full, warn and continue.

    Args:
        summary: show the values in `nsml ps`.
        scope: ignored.
        **values: text and numbers. A name a__b is stored as a/b.

    Raises:
        TypeError: A value is neither text nor a number.
    """
    if not IS_ON_NSML:
        return
    try:
        _curves().add(values, summary)
    except OSError as error:
        warnings.warn(f"nsml.report: the values cannot be stored ({error}).", stacklevel=2)


def cache(
    preprocess_fn: Callable[..., Any], output_path: str | list[str] | None = None, **others: Any
) -> None:
    """Call a preprocessing function that writes files, or copy the files from an earlier call.

    Args:
        preprocess_fn: called as preprocess_fn(output_path=..., **others).
        output_path: the files; ["./processed"] by default.
        **others: further arguments. Calls with equal arguments share their files, see
            `caching.cached`.
    """
    if not IS_ON_NSML:
        return
    outputs = ["./processed"] if output_path is None else output_path
    files = [outputs] if isinstance(outputs, str) else outputs
    cached(preprocess_fn, files, Path(DATASET_PATH), {"output_path": outputs, **others})


def time_left_s() -> float:
    """Return the seconds until the limit of a submission (0 after it); inf if not submitting."""
    deadline = float(os.environ.get("NSML_DEADLINE", math.inf))
    return max(0.0, deadline - time.time())


def paused(scope: Any = None) -> None:
    """Load the checkpoint that a forked or resumed session starts from.

    In a submission: load the checkpoint, answer the queries and end the process.

    Args:
        scope: ignored.
    """
    model = os.environ.get("NSML_CHECKPOINT_DIR")
    if not IS_ON_NSML or not model:
        return
    if "NSML_ANSWER" in os.environ:
        _answer_and_exit(Path(model), Path(os.environ["NSML_ANSWER"]))
    checkpoints.read(Path(model), _function("load"))


def _function(name: str) -> Callable[..., Any]:
    if name not in _bound:
        raise ValueError(f"nsml: no `{name}` is bound; call nsml.bind({name}=...) first.")
    return _bound[name]  # type: ignore[no-any-return]


@functools.cache
def _curves() -> Curves:
    return Curves(FOLDER)


def _answer_and_exit(model: Path, path: Path) -> None:
    """Write the answer and end the process at once."""
    # os._exit: user code cannot catch it, and remaining threads do not delay it.
    exit_code = 1
    try:
        checkpoints.read(model, _function("load"))
        answer = _function("infer")(_images("query"), _images("reference"))
        # A child process that `infer` forked must not answer as well.
        if os.getpid() == _bound["pid"]:
            _write_answer(path, answer)
        exit_code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(exit_code)


def _images(kind: str) -> list[str]:
    folder = Path(DATASET_PATH, "test", "test_data", kind)
    return sorted(map(str, folder.glob("[!.]*")))


def _write_answer(path: Path, answer: Any) -> None:
    """Write the answer as JSON, one item at a time, so that an error can name the item."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        if not isinstance(answer, (list, tuple)):
            file.write(_json(answer, "the answer of infer (it must be a list)"))
            return
        file.write("[")
        for position, item in enumerate(answer):
            separator = ",\n" if position else ""
            text = _json(_with_text_number(item), f"item {position} of the answer of infer")
            file.write(separator + text)
        file.write("]\n")


def _with_text_number(item: Any) -> Any:
    """Return an item of an answer with a number that JSON can hold; it has no meaning."""
    if not isinstance(item, (list, tuple)) or len(item) != 2:
        return item
    number, rest = item
    return [number if isinstance(number, (numbers.Integral, float, str)) else str(number), rest]


def _json(value: Any, name: str) -> str:
    try:
        return json.dumps(escaped_values(value), default=_integer)
    except (TypeError, ValueError) as error:
        raise TypeError(f"nsml: {name} cannot be written as JSON: {error}.") from None


def _integer(value: Any) -> int:
    if isinstance(value, numbers.Integral):
        return int(value)
    raise TypeError(
        f"{reprlib.repr(value)} ({type(value).__name__}) is neither text nor an integer"
    )
