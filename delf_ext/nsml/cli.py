"""Define the console command `nsml`: its commands, flags and help."""

from __future__ import annotations

import argparse
import errno
import io
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from delf_ext.config import UsageError
from delf_ext.nsml import commands, store, submission

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

POSITIONALS = {
    "session": "name of the session: USER/DATASET/N",
    "session+": "names of the sessions: USER/DATASET/N",
    "checkpoint": "name of the checkpoint, see `nsml model ls`",
    "checkpoint?": "name of the checkpoint (default: the newest)",
    "path": "folder to create",
    "path?": "images: class folders, a CSV file, or any other form that `mandoo --data` reads",
    "name": "name of the data set",
}
Handler = Callable[[Namespace], int | None]


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
        args = build_parser().parse_args(_join_args_values(arguments))
        exit_code = args.handler(args)
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
        print(f"usage error: {error} See --help.", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        remedy = ""
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            remedy = f". Free space in {store.home()} with `nsml rm` or `nsml model rm`."
        print(f"error: {error}{remedy}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = _Parser(
        prog="nsml",
        description="Train, compare and submit models on this machine, as on the NSML platform.",
        epilog=EXAMPLES,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_sessions(subparsers)
    _add_models(subparsers)
    _add_datasets(subparsers)
    return parser


def _prepare_process() -> None:
    # Table cells may hold letters that the terminal cannot show, and a process may have no stdout.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    # `kill` and a closed terminal raise KeyboardInterrupt, so that a submission ends its process.
    for number in (signal.SIGTERM, signal.SIGHUP):
        # `nohup` makes the process ignore SIGHUP: leave it so.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _add_sessions(subparsers: Any) -> None:
    args_help = 'arguments of the entry as one string: "--epochs=3 --lr=0.1"'
    gpus_help = "number of GPUs that the session can use (default: %s)"
    run = _command(
        subparsers,
        "run",
        commands.run,
        'nsml run -d ir_ph1_v2 -e dual_main.py -a "--epochs=3 --train_logits" -m "first try"',
    )
    run.add_argument("-d", "--dataset", required=True, help="data set, see `nsml dataset ls`")
    run.add_argument("-e", "--entry", default="main.py", help="file to run (default: %(default)s)")
    run.add_argument("-a", "--args", default="", help=args_help)
    run.add_argument("-g", "--gpus", type=_count, default=1, metavar="N", help=gpus_help % 1)
    run.add_argument("-m", "--memo", default="", help="description that `nsml ps` shows")
    interactive_help = "print the log until the session ends; exit code 1 if it fails"
    run.add_argument("-i", "--interactive", action="store_true", help=interactive_help)
    run.add_argument(
        "-v", "--verbose", action="store_true", help="print the session's folder and command"
    )
    ps = _command(subparsers, "ps", commands.ps, "nsml ps -a")
    ps.add_argument("-a", "--all", action="store_true", help="list ended sessions too")
    logs = _command(subparsers, "logs", commands.logs, "nsml logs -f you/ir_ph1_v2/1", "session")
    logs.add_argument("-f", "--follow", action="store_true", help="continue until the session ends")
    _command(subparsers, "stop", commands.stop, "nsml stop you/ir_ph1_v2/1", "session")
    resume_example = "nsml resume you/ir_ph1_v2/1"
    _command(subparsers, "resume", commands.resume, resume_example, "session", "checkpoint?")
    fork_example = 'nsml fork you/ir_ph1_v2/1 200 -a "--lr=1e-5"'
    fork = _command(subparsers, "fork", commands.fork, fork_example, "session", "checkpoint?")
    fork.add_argument("-a", "--args", default="", help=f"further {args_help}")
    gpus_default = "as many as the other session"
    fork.add_argument("-g", "--gpus", type=_count, metavar="N", help=gpus_help % gpus_default)
    _command(subparsers, "rm", commands.rm, "nsml rm you/ir_ph1_v2/1 you/ir_ph1_v2/2", "session+")


def _add_models(subparsers: Any) -> None:
    session = "you/ir_ph1_v2/1"
    ls_example = f"nsml model ls {session}"
    model_help = "List, copy and delete checkpoints: ls, pull, rm."
    model = _group(subparsers, "model", model_help, ls_example)
    _command(model, "ls", commands.model_ls, ls_example, "session")
    pull_example = f"nsml model pull {session} 200 pulled"
    _command(model, "pull", commands.model_pull, pull_example, "session", "checkpoint", "path")
    rm_example = f"nsml model rm {session} 200"
    _command(model, "rm", commands.model_rm, rm_example, "session", "checkpoint")
    submit_example = f"nsml submit {session} 200 --limit=600"
    submit = _command(
        subparsers, "submit", commands.submit, submit_example, "session", "checkpoint?"
    )
    test_help = "only check and time the answer; the leaderboard does not count it"
    submit.add_argument("-t", "--test", action="store_true", help=test_help)
    submit.add_argument("-v", "--verbose", action="store_true", help="print the log")
    submit.add_argument(
        "--limit",
        type=float,
        default=submission.LIMIT_S,
        metavar="SECONDS",
        help="time limit (default: %(default)g)",
    )


def _add_datasets(subparsers: Any) -> None:
    push_example = "nsml dataset push covers photos/ --overwrite"
    dataset_help = "Create, list and delete data sets, and rank submissions: push, ls, rm, board."
    dataset = _group(subparsers, "dataset", dataset_help, push_example)
    _command(dataset, "ls", commands.dataset_ls, "nsml dataset ls")
    push = _command(dataset, "push", commands.dataset_push, push_example, "name", "path?")
    draw_help = "draw products instead; by default as many as in round 1 of the hackathon"
    push.add_argument("--draw", action="store_true", help=draw_help)
    push.add_argument(
        "--classes",
        type=_count,
        metavar="N",
        help="with --draw: number of products (default: 1000)",
    )
    push.add_argument(
        "--seed", type=_count, metavar="N", help="with --draw: seed of the drawing (default: 0)"
    )
    push.add_argument("--overwrite", action="store_true", help="replace a data set of that name")
    _command(dataset, "rm", commands.dataset_rm, "nsml dataset rm covers", "name")
    for parent, name, example in (
        (dataset, "board", "nsml dataset board ir_ph1_v2"),
        (subparsers, "leaderboard", "nsml leaderboard ir_ph1_v2 --full"),
    ):
        board = _command(parent, name, commands.leaderboard, example, "name")
        full_help = "show more metrics, such as mAP over whole rankings"
        board.add_argument("--full", action="store_true", help=full_help)
        board.add_argument("--json", metavar="FILE", help="also write the results to a JSON file")


class _Parser(argparse.ArgumentParser):
    """Parser that keeps line breaks in help texts and does not accept shortened flags."""

    def __init__(self, **others: Any) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(**others, formatter_class=formatter, allow_abbrev=False)


def _group(subparsers: Any, name: str, text: str, example: str) -> Any:
    epilog = f"example:\n  {example}"
    group = subparsers.add_parser(name, help=text, description=text, epilog=epilog)
    return group.add_subparsers(metavar="COMMAND", required=True)


def _command(
    subparsers: Any, name: str, handler: Handler, example: str, *positionals: str
) -> argparse.ArgumentParser:
    """Add a command; a positional may be omitted if it ends with "?", or repeated with "+"."""
    text = handler.__doc__
    parser = subparsers.add_parser(
        name, help=text, description=text, epilog=f"example:\n  {example}"
    )
    parser.set_defaults(handler=handler)
    for positional in positionals:
        dest = positional.rstrip("?+")
        nargs = positional[len(dest) :] or None
        default = "" if nargs == "?" else None
        help_text = POSITIONALS[positional]
        parser.add_argument(
            dest, nargs=nargs, default=default, metavar=dest.upper(), help=help_text
        )
    return parser


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


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more. Received {text!r}.")
    return int(text)
