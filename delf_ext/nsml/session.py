"""The session's side of the 2018 contract: what user code finds as `nsml`. Outside a session the functions do nothing.

Whoever starts a session says what it is by environment variables. From the published interface of the platform:

    nsml.bind(save=save, load=load, infer=infer)    # save(folder), load(folder), infer(query_paths, reference_paths)
    if args.pause:
        nsml.paused(scope=locals())                 # a fork goes on here with its checkpoint loaded; a submission ends here
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

from data_io.artifacts import atomic_path
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

_bound: dict[str, Any] = {}  # the functions by name, and `pid`, the process that bound them


def bind(
    save: Callable[..., Any] | None = None,
    load: Callable[..., Any] | None = None,
    infer: Callable[..., Any] | None = None,
    **others: Any,
) -> None:
    """Says what saves, loads and answers; what is bound again takes the earlier one's place.

    others: of the platform's own `save` and `load`, which would take models; passed by 2018 code, and of no effect here.
    """
    functions = {"save": save, "load": load, "infer": infer}
    _bound.update(
        {name: function for name, function in functions.items() if function}, pid=os.getpid()
    )


def _function(name: str) -> Callable[..., Any]:
    if name not in _bound:
        raise ValueError(f"nsml: no `{name}` is bound; call nsml.bind({name}=...) first.")
    return _bound[name]  # type: ignore[no-any-return]


def save(iteration: Any = None, save_fn: Callable[..., Any] | None = None) -> None:
    """A checkpoint of this name (the time now without one); one of the same name is replaced when the new one is whole.

    Raises: as `checkpoints.write`.
    """
    if not IS_ON_NSML:
        return
    name = time.strftime("%Y%m%d_%H%M%S") if iteration is None else str(iteration)
    checkpoints.write(
        FOLDER / "checkpoints", name, save_fn or _function("save"), last_summary(FOLDER)
    )


def load(
    iteration: Any, load_fn: Callable[..., Any] | None = None, session: str | None = None
) -> None:
    """Loads a checkpoint of this session, or of another one by its name. Raises: ValueError listing those that there are."""
    if not IS_ON_NSML:
        return
    session = session or SESSION_NAME
    folder = store.checkpoint_folder(session, store.find_checkpoint(session, str(iteration)))
    checkpoints.read(folder / "model", load_fn or _function("load"))


def report(summary: bool = False, scope: Any = None, **values: Any) -> None:
    """Keeps values for TensorBoard; with summary, `nsml ps` shows them. A full disk costs a warning, not the run.

    values: text and numbers; a__b is shown as a/b. scope: ignored. Raises: TypeError naming what is neither.
    """
    if not IS_ON_NSML:
        return
    try:
        _curves().add(values, summary)
    except OSError as error:
        warnings.warn(f"nsml.report: not kept ({error}).", stacklevel=2)


@functools.lru_cache(maxsize=1)
def _curves() -> Curves:
    return Curves(FOLDER)


def cache(
    preprocess_fn: Callable[..., Any], output_path: str | list[str] | None = None, **others: Any
) -> None:
    """Calls preprocess_fn(output_path=..., **others), which writes these files (["./processed"] when none are given).

    The next run that asks for the same gets copies of them: see `caching.cached`.
    """
    if not IS_ON_NSML:
        return
    outputs = ["./processed"] if output_path is None else output_path
    files = [outputs] if isinstance(outputs, str) else outputs
    cached(preprocess_fn, files, Path(DATASET_PATH), {"output_path": outputs, **others})


def time_left_s() -> float:
    """Until the limit of a submission, 0 after it; inf for everything else."""
    if "NSML_TIME_LIMIT_S" not in os.environ:
        return math.inf
    return max(
        0.0,
        float(os.environ["NSML_STARTED"]) + float(os.environ["NSML_TIME_LIMIT_S"]) - time.time(),
    )


def paused(scope: Any = None) -> None:
    """Loads the checkpoint with which a forked or resumed session begins; a submission loads, answers and ends here.

    scope: ignored.
    """
    model = os.environ.get("NSML_CHECKPOINT_DIR")
    if not IS_ON_NSML or not model:
        return
    if "NSML_ANSWER" in os.environ:
        _answer_and_end(Path(model), Path(os.environ["NSML_ANSWER"]))
    checkpoints.read(Path(model), _function("load"))


def _answer_and_end(model: Path, path: Path) -> None:
    """Ends the process as it stands: neither user code that catches exceptions nor a thread left over can hold it."""
    exit_code = 1
    try:
        checkpoints.read(model, _function("load"))
        answer = _function("infer")(_images("query"), _images("reference"))
        if os.getpid() == _bound["pid"]:  # and not a child that infer forked
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
    return sorted(str(path) for path in folder.iterdir() if not path.name.startswith("."))


def _write_answer(path: Path, answer: Any) -> None:
    """As JSON, an item at a time. Raises: TypeError naming the item that holds what JSON does not."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        if not isinstance(answer, (list, tuple)):
            file.write(_json(answer, "the whole, which must be a list"))
            return
        file.write("[")
        for place, item in enumerate(answer):
            file.write((",\n" if place else "") + _json(item, f"item {place}"))
        file.write("]\n")


def _json(value: Any, place: str) -> str:
    try:
        return json.dumps(value, default=_whole_number)
    except (TypeError, ValueError) as error:
        raise TypeError(f"nsml: the answer of infer, {place}: {error}.") from None


def _whole_number(value: Any) -> int:
    if isinstance(value, numbers.Integral):
        return int(value)
    raise TypeError(
        f"{reprlib.repr(value)} ({type(value).__name__}) is neither text nor a whole number"
    )
