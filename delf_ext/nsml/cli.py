"""The console command `nsml`: `nsml --help` teaches."""

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
  nsml dataset push ir_ph1_v2 --draw            round 1's shape, drawn; or: nsml dataset push NAME FOLDER_OF_IMAGES
  nsml run -d ir_ph1_v2 -e dual_main.py --args "--train_logits --train_sim --stop_gradient_sim"
  nsml ps                                       what runs; -a: what has ended, too
  nsml logs -f you/ir_ph1_v2/1
  nsml model ls you/ir_ph1_v2/1
  nsml submit you/ir_ph1_v2/1 200               answers the test queries with checkpoint 200, and scores them
  nsml leaderboard ir_ph1_v2
  nsml fork you/ir_ph1_v2/1 200 -a "--lr=1e-5"  a new session, from that checkpoint on

Everything lies below ~/.mandoo, or the folder that MANDOO_HOME names."""

POSITIONALS = {
    "session": "its name, USER/DATASET/N",
    "session+": "their names, USER/DATASET/N",
    "checkpoint": "its name, see `nsml model ls`",
    "checkpoint?": "its name (default: the newest)",
    "path": "the new folder",
    "path?": "class folders, a CSV or any other form that --data of dual_main.py takes",
    "name": "of the data set",
}
Handler = Callable[[Namespace], int | None]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 1 with one line for what a user can mend, or a session or submission that failed; 2 for wrong usage."""
    _prepare_process()
    try:
        args = build_parser().parse_args(
            _with_args_bound(sys.argv[1:] if arguments is None else arguments)
        )
        status = args.handler(args)
        sys.stdout.flush()
        return status or 0
    except KeyboardInterrupt:
        print(
            "\ninterrupted. Sessions that were started go on: `nsml ps` lists them.",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:  # `nsml logs SESSION | head`
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # what is left is flushed at exit
        return 0
    except UsageError as error:
        print(f"usage error: {error} (--help explains)", file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        remedy = f". `nsml rm` and `nsml model rm` make room in {store.home()}." if full else ""
        print(f"error: {error}{remedy}", file=sys.stderr)
        return 1


def _prepare_process() -> None:
    """A closed terminal and `kill` interrupt, so that a submission ends as a whole; no letter or missing stdout stops a table."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` has it ignored
            signal.signal(number, signal.default_int_handler)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="nsml",
        description="Trains, compares and submits on this machine, as NSML did.",
        epilog=EXAMPLES,
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_sessions(verbs)
    _add_models(verbs)
    _add_datasets(verbs)
    return parser


def _add_sessions(verbs: Any) -> None:
    args_help = 'arguments of the entry, as one string: "--epochs=3 --lr=0.1"'
    run = _command(verbs, "run", commands.run)
    run.add_argument("-d", "--dataset", required=True, help="its data set, see `nsml dataset ls`")
    run.add_argument(
        "-e", "--entry", default="main.py", help="the file to run (default: %(default)s)"
    )
    run.add_argument("-a", "--args", default="", help=args_help)
    run.add_argument(
        "-g",
        "--gpus",
        type=_count,
        default=1,
        metavar="N",
        help="GPUs that it may see (default: %(default)s)",
    )
    run.add_argument("-m", "--memo", default="", help="a description, for `nsml ps`")
    run.add_argument(
        "-i",
        "--interactive",
        action="store_true",
        help="show its log until it ends; exit 1 when it fails",
    )
    run.add_argument(
        "-v", "--verbose", action="store_true", help="say where it lies and what is run"
    )
    ps = _command(verbs, "ps", commands.ps)
    ps.add_argument("-a", "--all", action="store_true", help="ended ones, too")
    logs = _command(verbs, "logs", commands.logs, "session")
    logs.add_argument(
        "-f", "--follow", action="store_true", help="and what it prints, until it ends"
    )
    _command(verbs, "stop", commands.stop, "session")
    _command(verbs, "resume", commands.resume, "session", "checkpoint?")
    fork = _command(verbs, "fork", commands.fork, "session", "checkpoint?")
    fork.add_argument("-a", "--args", default="", help=f"more {args_help}")
    fork.add_argument(
        "-g",
        "--gpus",
        type=_count,
        metavar="N",
        help="GPUs that it may see (default: as its parent)",
    )
    _command(verbs, "rm", commands.rm, "session+")


def _add_models(verbs: Any) -> None:
    model = _group(verbs, "model", "Checkpoints: ls, pull, rm.")
    _command(model, "ls", commands.model_ls, "session")
    _command(model, "pull", commands.model_pull, "session", "checkpoint", "path")
    _command(model, "rm", commands.model_rm, "session", "checkpoint")
    submit = _command(verbs, "submit", commands.submit, "session", "checkpoint?")
    submit.add_argument(
        "-t",
        "--test",
        action="store_true",
        help="check and time the answer, without the leaderboard",
    )
    submit.add_argument("-v", "--verbose", action="store_true", help="show its log")
    limit_help = "after which it is failed (default: %(default)g)"
    submit.add_argument(
        "--limit", type=float, default=submission.LIMIT_S, metavar="SECONDS", help=limit_help
    )


def _add_datasets(verbs: Any) -> None:
    dataset = _group(verbs, "dataset", "Data sets: ls, push, rm, board.")
    _command(dataset, "ls", commands.dataset_ls)
    push = _command(dataset, "push", commands.dataset_push, "name", "path?")
    push.add_argument(
        "--draw",
        action="store_true",
        help="draw products instead, in the shape of the hackathon's first round",
    )
    push.add_argument(
        "--classes", type=_count, metavar="N", help="with --draw: how many products (default: 1000)"
    )
    push.add_argument(
        "--seed", type=_count, metavar="N", help="with --draw: which products (default: 0)"
    )
    push.add_argument("--overwrite", action="store_true", help="replace a data set of that name")
    _command(dataset, "rm", commands.dataset_rm, "name")
    for board in (
        _command(dataset, "board", commands.leaderboard, "name"),
        _command(verbs, "leaderboard", commands.leaderboard, "name"),
    ):
        board.add_argument(
            "--full", action="store_true", help="more metrics, such as mAP over whole rankings"
        )
        board.add_argument("--json", metavar="FILE", help="write it there, too")


class _Parser(argparse.ArgumentParser):
    def __init__(self, **others: Any) -> None:
        super().__init__(
            **others, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )


def _group(verbs: Any, name: str, text: str) -> Any:
    return verbs.add_parser(name, help=text, description=text).add_subparsers(
        metavar="COMMAND", required=True
    )


def _command(verbs: Any, name: str, handler: Handler, *positionals: str) -> argparse.ArgumentParser:
    """A command and what it is given, in order; `?`: may be left out, `+`: one or more."""
    parser = verbs.add_parser(name, help=handler.__doc__, description=handler.__doc__)
    parser.set_defaults(handler=handler)
    for given in positionals:
        nargs = given[-1] if given[-1] in "?+" else None
        default = "" if nargs == "?" else None
        dest = given.rstrip("?+")
        parser.add_argument(
            dest, nargs=nargs, default=default, metavar=dest.upper(), help=POSITIONALS.get(given)
        )
    return parser


def _with_args_bound(arguments: list[str]) -> list[str]:
    """`--args "--epochs=1"` in one word: argparse takes a value that begins with a dash for a flag."""
    if arguments[:1] not in (["run"], ["fork"]):
        return arguments
    bound: list[str] = []
    for word in arguments:
        if bound and bound[-1] in ("-a", "--args"):
            bound[-1] = f"--args={word}"
        else:
            bound.append(word)
    return bound


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative. Received {text}.")
    return value
