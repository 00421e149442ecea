"""Run mandoo from the command line: parse the flags and call one verb. See `--help`."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import sys
from typing import NoReturn

from absl import flags

from data_io.decoding.pixel_limit import set_max_pixels
from data_io.files.names import print_any_name
from data_io.messages import error_line
from delf_ext.config import UsageError
from delf_ext.verbs.flags import describe_error, expand_paths, new_flags, require_in_range
from delf_ext.verbs.help import help_text
from delf_ext.verbs.outputs import checked_outputs
from delf_ext.verbs.verb_table import VERBS, how_to_continue, require_own_flags

BROKEN_PIPE = 141
"""Exit code of a process that a closed pipe ended, as shells count it."""
HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")


def parse(arguments: list[str]) -> tuple[str, flags.FlagValues]:
    """Return the verb and its flags. Exit with 0 after `--help`, with 2 after a usage error."""
    values = new_flags()
    verb = next((word for word in arguments if word in VERBS), None)
    if any(argument in HELP for argument in arguments):
        _print_help(verb)
    try:
        words = values(["dual_main.py", *arguments])[1:]
    except flags.Error as error:
        _exit_with_usage_error(describe_error(error), verb or "train")
    verb = words[0] if words else "train"
    if verb not in VERBS:
        _exit_with_usage_error(f"unknown verb {verb!r}. Verbs: {', '.join(VERBS)}.")
    if len(words) > 1:
        _exit_with_usage_error(
            f"unexpected argument {words[1]!r}: flags start with --, such as --data=photos.", verb
        )
    try:
        require_own_flags(verb, values)
        require_in_range(values)
        expand_paths(values)
    except UsageError as error:
        _exit_with_usage_error(str(error), verb)
    return verb, values


def _print_help(verb: str | None) -> NoReturn:
    try:
        print(help_text(verb), flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        # A full disk.
        _close_stdout()
        _exit(f"error: {error_line(error)}", 1)
    sys.exit(0)


def main(arguments: list[str] | None = None) -> None:
    """Run one verb.

    An error that the user can correct is printed as one line. Set MANDOO_TRACEBACK=1 to see the
    whole traceback.

    Args:
        arguments: the words of the command line; None reads `sys.argv`.

    Raises:
        SystemExit: 1 after such an error, 2 after a usage error, 130 after Ctrl-C, 141 if what
            reads the output has ended.
    """
    print_any_name()
    try:
        _run(*parse(sys.argv[1:] if arguments is None else arguments))
    except BrokenPipeError:
        # As in `mandoo search ... | head`. Python flushes the rest at exit: to nowhere.
        _close_stdout()
        sys.exit(BROKEN_PIPE)


def _run(verb: str, values: flags.FlagValues) -> None:
    # TensorFlow prints three lines about CUDA when it is imported, unless this is set before.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Its warnings are about its own parts; errors are shown.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    set_max_pixels(values.max_pixels)
    try:
        with checked_outputs(verb, values):
            importlib.import_module(f"delf_ext.verbs.{verb}").run(values)
            if sys.stdout:
                sys.stdout.flush()
    except KeyboardInterrupt:
        _exit(f"\nstopped. {how_to_continue(verb, values)}", 130)
    except BrokenPipeError:
        raise
    except MemoryError:
        _exit("error: not enough memory. Close other programs, or pass a smaller --batch_size.", 1)
    except UsageError as error:
        _exit_with_usage_error(str(error), verb)
    except Exception as error:
        if os.environ.get("MANDOO_TRACEBACK") or not _can_be_corrected(error):
            raise
        if isinstance(error, OSError) and error.filename is None:
            # The output of this process may be on a full disk, and is flushed at exit.
            _close_stdout()
        _exit(f"error: {_first_line(error)}", 1)


def _exit_with_usage_error(message: str, verb: str = "") -> NoReturn:
    """Print the message with the command that shows the flags, and exit with 2."""
    sentence = message if message.endswith((".", "?", "!")) else f"{message}."
    command = f"mandoo {verb} --help" if verb else "mandoo --help"
    _exit(f"usage error: {sentence} See `{command}`.", 2)


def _close_stdout() -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def _can_be_corrected(error: Exception) -> bool:
    """Return whether the user can correct it: bad input, an unreadable file, a full disk.

    TensorFlow has its own error classes for files and disks.
    """
    from_tensorflow = type(error).__module__.startswith("tensorflow.python.framework.errors")
    return isinstance(error, (ValueError, OSError)) or from_tensorflow


def _first_line(error: Exception) -> str:
    """Return the message of an error; of a TensorFlow error without graph node and stack."""
    if isinstance(error, OSError):
        return error_line(error)
    text = str(error).strip()
    if not type(error).__module__.startswith("tensorflow"):
        return text
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", text.splitlines()[0])


if __name__ == "__main__":
    main()
