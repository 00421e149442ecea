"""The front door of mandoo: flags in, one verb out. `python dual_main.py --help` teaches."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import NoReturn

from absl import flags

from delf_ext.config import UsageError
from delf_ext.verbs.flags import new_flags
from delf_ext.verbs.help import help_text
from delf_ext.verbs.verb_table import VERBS, require_own_flags

HELP = ("--help", "-help", "-h", "--helpfull", "--helpshort")


def parse(arguments: list[str]) -> tuple[str, flags.FlagValues]:
    """The verb and its flags. Exits 0 after --help, 2 on a usage error, naming the flag."""
    values = new_flags()
    if any(argument in HELP for argument in arguments):
        print(help_text(next((word for word in arguments if word in VERBS), None)))
        sys.exit(0)
    try:
        words = values(["dual_main.py", *arguments])[1:]
        verb = words[0] if words else "train"
        if verb not in VERBS or len(words) > 1:
            raise flags.Error(f"unknown word {words[-1]!r}. Verbs: {', '.join(VERBS)}.")
        require_own_flags(verb, values)
    except (flags.Error, UsageError) as error:
        _end(
            f"usage error: {error} (mandoo --help lists the verbs, mandoo VERB --help its flags)", 2
        )
    return verb, values


def main(arguments: list[str] | None = None) -> None:
    """Runs one verb. What a user can mend ends in one line and exit 1; MANDOO_TRACEBACK=1 shows where it came from."""
    verb, values = parse(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "3"
    )  # before TensorFlow is imported: it greets with three lines on CUDA
    try:
        importlib.import_module(f"delf_ext.verbs.{verb}").run(values)
    except KeyboardInterrupt:
        _end("\nstopped. A training run continues with --run_dir=... --resume.", 130)
    except UsageError as error:
        _end(f"usage error: {error} (mandoo {verb} --help lists its flags)", 2)
    except Exception as error:
        if os.environ.get("MANDOO_TRACEBACK") or not _is_users_business(error):
            raise
        _end(f"error: {_first_line(error)}", 1)


def _end(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)


def _is_users_business(error: Exception) -> bool:
    """Bad input, unreadable files, full disks; TensorFlow reports the latter as its own errors."""
    return isinstance(error, (ValueError, OSError)) or type(error).__module__.startswith(
        "tensorflow.python.framework.errors"
    )


def _first_line(error: Exception) -> str:
    """Ours are one line, or a line and a report; TensorFlow's begin with a node of its graph and end with a stack."""
    text = str(error).strip()
    if not type(error).__module__.startswith("tensorflow"):
        return text
    return re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:.*", "", text.splitlines()[0])


if __name__ == "__main__":
    main()
