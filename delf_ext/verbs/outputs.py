"""Check before the work that each output of a verb can be written and replaces nothing foreign."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data_io.files.caches import write_error
from data_io.files.marks import foreign_entry, is_ours, mark_folder
from data_io.files.names import shown
from data_io.files.output_files import is_stdout, is_stream
from data_io.files.system_files import FOLDER_MARK
from data_io.messages import error_line
from delf_ext.config import UsageError, require
from delf_ext.verbs.flag_table import PATH_FLAGS
from delf_ext.verbs.verb_table import DEFAULT_OUT, OUT_FILES, VERBS

# A verb writes into a run directory too, but it must hold a run, which the verb checks itself.
OUTPUT_FLAGS = ("json", "out", "picture", "run_dir", "pixel_cache")


REFUSE_OTHER_FILES = ("draw", "demo", "train")
"""Verbs that look into their folder themselves."""


class Output(NamedTuple):
    """A file or folder that a verb will write; `flag` is how messages name it."""

    flag: str
    path: str
    is_folder: bool


def outputs_of(verb: str, values: Any) -> list[Output]:
    """Return what the verb writes where the user says, as far as the flags show it."""
    own = VERBS[verb].flags
    outputs = []
    if "json" in own and values.json:
        outputs.append(Output("--json", values.json, False))
    if "picture" in own and values.picture:
        outputs.append(Output("--picture", values.picture, False))
    if verb == "train" and values.mode == "train":
        places = {"--run_dir": values.run_dir, "--pixel_cache": values.pixel_cache}
        outputs += [Output(flag, path, True) for flag, path in places.items() if path]
    out = values.out or DEFAULT_OUT.get(verb, "")
    if verb == "infer" and not values.out:
        out = os.path.join(values.run_dir or "", out)
    if "out" in own and out:
        outputs.append(Output("--out", out, verb not in OUT_FILES))
    if verb == "infer" and not is_stream(out):
        require(
            not out.endswith(".txt"),
            f"--out={shown(out)}: a .txt file beside the JSON file gets the answer as a Python "
            "object; use another ending here, such as .json.",
        )
        text = os.path.splitext(out)[0] + ".txt"
        outputs.append(Output("--out (the .txt file beside it)", text, False))
    return outputs


@contextlib.contextmanager
def checked_outputs(verb: str, values: Any) -> Iterator[None]:
    """Check all outputs, then let the verb run; what is printed leaves stdout if it is an output.

    A folder is created and marked before the work, and removed if the verb leaves it empty.

    Args:
        verb: key of `VERBS`.
        values: the flags, after parsing.

    Yields:
        Nothing.

    Raises:
        UsageError: an output cannot be written, or would replace what this program did not write.
    """
    outputs = outputs_of(verb, values)
    inputs = _inputs(verb, values)
    may_replace = "overwrite" in VERBS[verb].flags and values.overwrite
    with_overwrite = "overwrite" in VERBS[verb].flags
    for output in outputs:
        check = _require_folder if output.is_folder else _require_file
        check(output)
        _require_no_input(output, inputs)
        if not may_replace and verb not in REFUSE_OTHER_FILES:
            _require_ours(output, with_overwrite)
    _require_different(outputs)
    with contextlib.ExitStack() as stack:
        if any(not output.is_folder and is_stdout(output.path) for output in outputs):
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        for output in outputs:
            if output.is_folder and verb not in REFUSE_OTHER_FILES:
                stack.enter_context(_marked_folder(Path(output.path)))
        yield


def _inputs(verb: str, values: Any) -> list[tuple[str, str]]:
    """Return (flag, path) of each input that was passed and exists."""
    inputs = []
    for name in PATH_FLAGS:
        if name in OUTPUT_FLAGS or name not in VERBS[verb].flags or not values[name].value:
            continue
        paths = values[name].value
        for path in paths if isinstance(paths, list) else [paths]:
            inputs += [(f"--{name}", file) for file in (path, f"{path}.index") if _exists(file)]
    return inputs


def _exists(path: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return os.path.exists(path)
    return False


def _require_file(output: Output) -> None:
    flag, path, _ = output
    if is_stream(path):
        return
    text = f"{flag}={shown(path)}"
    target = os.path.realpath(path)
    _require_short_names(text, target)
    require(not os.path.islink(target), f"{text}: the link leads in a circle; pass another path.")
    require(
        not (os.path.isdir(target) or path.endswith("/")),
        f"{text} is a folder: give the file in it a name.",
    )
    if os.path.exists(target):
        require(os.path.isfile(target), f"{text} is neither a file nor a pipe.")
        require(os.access(target, os.W_OK), f"{text}: you may not write to this file.")
    _require_writable(text, os.path.dirname(target))


def _require_folder(output: Output) -> None:
    text = f"{output.flag}={shown(output.path)}"
    require(not is_stream(output.path), f"{text}: this verb writes a folder; pass the path of one.")
    target = os.path.realpath(output.path)
    _require_short_names(text, target)
    _require_writable(text, target)


def _require_short_names(text: str, target: str) -> None:
    try:
        os.lstat(target)
        longest = os.pathconf("/", "PC_NAME_MAX")
    except OSError as error:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            raise UsageError(f"{text}: {error_line(error)}") from None
        longest = 255
    except (AttributeError, ValueError):
        longest = 255
    require(
        all(len(os.fsencode(part)) <= longest for part in target.split(os.sep)),
        f"{text}: a name in this path is too long; the limit is {longest} bytes.",
    )


def _require_writable(text: str, folder: str) -> None:
    """Raise UsageError unless a file can be made in a folder, or in the nearest one above it."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    require(os.path.isdir(folder), f"{text}: {shown(folder)} is a file, but must be a folder.")
    reason = write_error(Path(folder))
    require(not reason, f"{text} cannot be written: {reason}.")


def _require_no_input(output: Output, inputs: list[tuple[str, str]]) -> None:
    for flag, path in inputs:
        is_same = _exists(output.path) and os.path.samefile(output.path, path)
        require(
            is_stream(output.path) or not is_same,
            f"{output.flag} and {flag} are both {shown(path)}: the result would replace the input. "
            f"Pass another {output.flag}.",
        )


def _require_ours(output: Output, with_overwrite: bool) -> None:
    path = Path(os.path.realpath(output.path))
    if is_stream(output.path) or not path.exists():
        return
    remedy = " or --overwrite to replace it" if with_overwrite else ""
    if not output.is_folder:
        require(
            is_ours(path),
            f"{output.flag}={shown(output.path)}: this file exists, and mandoo did not write it "
            f"(or it was edited since). Pass another path{remedy}.",
        )
        return
    entry = foreign_entry(path)
    remedy = " or --overwrite to write beside it" if with_overwrite else ""
    require(
        entry is None,
        f"{output.flag}={shown(output.path)}: this folder holds {shown(entry)}, which mandoo did "
        f"not write. Pass a new folder{remedy}.",
    )


def _require_different(outputs: list[Output]) -> None:
    paths = [os.path.realpath(output.path) for output in outputs]
    require(
        len(set(paths)) == len(paths) or all(path == os.devnull for path in paths),
        f"{' and '.join(output.flag for output in outputs)} are the same: pass two paths.",
    )


@contextlib.contextmanager
def _marked_folder(folder: Path) -> Iterator[None]:
    is_new = not folder.exists()
    mark_folder(folder)
    try:
        yield
    finally:
        # Another shard may work in the same folder.
        with contextlib.suppress(OSError):
            if is_new and os.listdir(folder) == [FOLDER_MARK]:
                (folder / FOLDER_MARK).unlink()
                folder.rmdir()
