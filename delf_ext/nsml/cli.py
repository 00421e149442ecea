"""Run the console command `nsml`.

Flags and help are made from the signatures and docstrings of the functions in `commands`.
"""

from __future__ import annotations

import argparse
import errno
import inspect
import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, get_args

from data_io.files.names import print_any_name
from data_io.files.output_files import home_path
from data_io.messages import error_line
from delf_ext.config import UsageError
from delf_ext.nsml import commands, store
from delf_ext.recipes.part import TYPE_NAMES, Positive, Range, Seed, coerced

EXAMPLES = """\
examples:
  nsml dataset push ir_ph1_v2 --draw            draw a data set as large as the one of round 1
  nsml run -d ir_ph1_v2 -e dual_main.py --args "--train_logits --train_sim --stop_gradient_sim"
  nsml ps                                       list running sessions; -a: all sessions
  nsml logs -f you/ir_ph1_v2/1                  follow the output of a session
  nsml model ls you/ir_ph1_v2/1                 list its checkpoints
  nsml submit you/ir_ph1_v2/1 200               answer the test queries with checkpoint 200
  nsml leaderboard ir_ph1_v2                    compare all submissions
  nsml fork you/ir_ph1_v2/1 200 -a "--lr=1e-5"  start a new session from checkpoint 200

Data sets and sessions are kept in ~/.mandoo, or in the folder that MANDOO_HOME names.
`nsml COMMAND --help` shows the flags of a command."""


PATHS = ("path", "json")
"""Parameters whose value is a path."""
NUMBERS: dict[str, Any] = {
    "classes": Annotated[int, Range(low=1, high=1_000_000)],
    "gpus": Annotated[int, Range(low=0, high=64)],
    "limit": Positive,
    "seed": Seed,
}
"""Name of a flag -> type and allowed values of its number."""


def _number(name: str, text: str) -> Any:
    """Convert the text of a number; argparse prints the message if it is not allowed."""
    kind = get_args(NUMBERS[name])[0]
    try:
        return coerced(kind(text), NUMBERS[name], "the value")
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except ValueError:
        needed = f"must be {TYPE_NAMES[kind]}. Received {text!r}."
        raise argparse.ArgumentTypeError(needed) from None


def main(arguments: list[str] | None = None) -> int:
    """Run a command of `nsml`.

    Args:
        arguments: command and flags; those of the process by default.

    Returns:
        Exit code: 0; 1 for an error that the user can correct, or if a session or submission
        failed; 2 for wrong usage; 130 if interrupted.
    """
    _prepare_process()
    if arguments is None:
        arguments = sys.argv[1:]
    try:
        values = vars(build_parser().parse_args(_join_args_values(arguments)))
        exit_code = values.pop("command")(**values)
        sys.stdout.flush()
        return exit_code or 0
    except KeyboardInterrupt:
        message = "\ninterrupted. Started sessions continue to run: `nsml ps` lists them."
        print(message, file=sys.stderr)
        return 130
    except BrokenPipeError:
        # As in `nsml logs SESSION | head`. Python flushes the rest at exit: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UsageError as error:
        print(f"usage error: {error} See `nsml COMMAND --help`.", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        text = error_line(error)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            text = f"{error}. Free space in {store.home()} with `nsml rm` or `nsml model rm`."
        print(f"error: {text}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = _Parser(
        prog="nsml",
        description="Train, compare and submit models on this machine, as on the NSML platform.",
        epilog=EXAMPLES,
    )
    groups = {"": parser.add_subparsers(metavar="COMMAND", required=True)}
    for name, command in commands.COMMANDS.items():
        group, _, verb = name.rpartition(" ")
        if group not in groups:
            text = commands.GROUPS[group]
            added = groups[""].add_parser(group, help=text, description=text)
            groups[group] = added.add_subparsers(metavar="COMMAND", required=True)
        _add_command(groups[group], verb, command)
    return parser


def _prepare_process() -> None:
    # A process may have no stdout.
    print_any_name()
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    # `kill` and a closed terminal raise KeyboardInterrupt, so that a submission ends its process.
    # Windows has no SIGHUP.
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        # `nohup` makes the process ignore SIGHUP: leave it so.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


class _Parser(argparse.ArgumentParser):
    """Parser that keeps line breaks in help texts and does not accept shortened flags."""

    def __init__(self, **others: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(**others, formatter_class=formatter, allow_abbrev=False)


def _add_command(subparsers: Any, name: str, command: Callable[..., int | None]) -> None:
    """Add a command: its parameters are the arguments, and its docstring is the help."""
    doc = inspect.getdoc(command) or ""
    text = doc.partition("\n")[0]
    example = doc.partition("Example:\n")[2]
    parser = subparsers.add_parser(name, help=text, description=text, epilog=f"example:\n{example}")
    parser.set_defaults(command=command)
    help_of = dict(re.findall(r"^    (\w+): (.+?)\.?$", doc, re.MULTILINE))
    for parameter in inspect.signature(command).parameters.values():
        _add_argument(parser, parameter, help_of.get(parameter.name, ""))


def _add_argument(
    parser: argparse.ArgumentParser, parameter: inspect.Parameter, help_text: str
) -> None:
    """Add a parameter of a command; a keyword-only parameter is a flag."""
    name = parameter.name
    is_optional = parameter.default is not parameter.empty
    default = parameter.default if is_optional else None
    if default:
        help_text += " (default: %(default)s)"
    settings: dict[str, Any] = {"default": default, "help": help_text}
    if parameter.annotation == "bool":
        settings["action"] = "store_true"
    else:
        settings["metavar"] = name.upper()
        settings["type"] = partial(_number, name) if name in NUMBERS else str
        if name in PATHS:
            settings["type"] = home_path
    if parameter.kind is parameter.KEYWORD_ONLY:
        parser.add_argument(f"-{name[0]}", f"--{name}", required=not is_optional, **settings)
        return
    if parameter.annotation == "list[str]":
        settings["nargs"] = "+"
    elif is_optional:
        settings["nargs"] = "?"
    parser.add_argument(name, **settings)


def _join_args_values(arguments: list[str]) -> list[str]:
    """Join `--args VALUE` to one word: argparse takes a VALUE like "--epochs=1" for a flag."""
    if arguments[:1] not in (["run"], ["fork"]):
        return arguments
    joined: list[str] = []
    for word in arguments:
        if joined and joined[-1] in ("-a", "--args"):
            joined[-1] = f"--args={word}"
        else:
            joined.append(word)
    return joined


if __name__ == "__main__":
    sys.exit(main())
