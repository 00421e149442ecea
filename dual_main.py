"""Run mandoo from the command line: parse the flags and call one verb. See `--help`."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import NoReturn

from absl import flags

from data_io.names import print_any_name
from data_io.pixel_limit import set_max_pixels
from delf_ext.config import UsageError
from delf_ext.verbs.flags import describe_error, new_flags, require_in_range
from delf_ext.verbs.help import help_text
from delf_ext.verbs.verb_table import VERBS, require_own_flags

HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")


def parse(arguments: list[str]) -> tuple[str, flags.FlagValues]:
    """Return the verb and its flags. Exit with 0 after `--help`, with 2 after a usage error."""
    values = new_flags()
    verb = next((word for word in arguments if word in VERBS), None)
    if any(argument in HELP for argument in arguments):
        print(help_text(verb))
        sys.exit(0)
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
    except UsageError as error:
        _exit_with_usage_error(str(error), verb)
    return verb, values


def main(arguments: list[str] | None = None) -> None:
    """Run one verb.

    An error that the user can correct is printed as one line. Set MANDOO_TRACEBACK=1 to see the
    whole traceback.

    Args:
        arguments: the words of the command line; None reads `sys.argv`.

    Raises:
        SystemExit: 1 after such an error, 2 after a usage error, 130 after Ctrl-C.
    """
    print_any_name()
    verb, values = parse(sys.argv[1:] if arguments is None else arguments)
    # TensorFlow prints three lines about CUDA when it is imported, unless this is set before.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    set_max_pixels(values.max_pixels)
    try:
        importlib.import_module(f"delf_ext.verbs.{verb}").run(values)
    except KeyboardInterrupt:
        _exit("\nstopped. To continue a training run, pass --run_dir=RUN --resume.", 130)
    except UsageError as error:
        _exit_with_usage_error(str(error), verb)
    except Exception as error:
        if os.environ.get("MANDOO_TRACEBACK") or not _can_be_corrected(error):
            raise
        _exit(f"error: {_first_line(error)}", 1)


def _exit_with_usage_error(message: str, verb: str = "") -> NoReturn:
    """Print the message with the command that shows the flags, and exit with 2."""
    sentence = message if message.endswith((".", "?", "!")) else f"{message}."
    command = f"mandoo {verb} --help" if verb else "mandoo --help"
    _exit(f"usage error: {sentence} See `{command}`.", 2)


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
    text = str(error).strip()
    if not type(error).__module__.startswith("tensorflow"):
        return text
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", text.splitlines()[0])


if __name__ == "__main__":
    main()
