"""What the commands of `nsml` do: each is one of its words, and its docstring the help; the result is the exit code."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from data_io.artifacts import read_json
from delf_ext.config import UsageError
from delf_ext.nsml import datasets, runner, store, submission
from delf_ext.nsml.curves import last_summary
from delf_ext.nsml.leaderboard import show
from delf_ext.nsml.tables import ago, size, summary, table


def run(args: Namespace) -> int:
    """Start a session with the code of this folder."""
    session = runner.run(args.dataset, args.entry, _split(args.args), args.gpus, args.memo)
    print(f"Session {session.name} started.", flush=True)
    if args.verbose:
        print(
            f"{store.session_folder(session.name)}: {shlex.join([session.entry, *session.args])}",
            flush=True,
        )
    if not args.interactive:
        return 0
    _print_log(session.name, follow=True)
    return 0 if store.read_state(session.name).status == "exited" else 1


def ps(args: Namespace) -> None:
    """List the sessions that run."""
    rows = []
    for name in store.session_names():
        try:
            session, state = store.read_session(name), store.read_state(name)
            if args.all or state.status not in store.ENDED:
                latest = summary(last_summary(store.session_folder(name)))
                notes = "; ".join(filter(None, [state.reason, session.memo]))
                rows.append(
                    [
                        name,
                        ago(session.created),
                        shlex.join(session.args),
                        state.status,
                        latest,
                        notes,
                    ]
                )
        except (TypeError, ValueError, OSError) as error:
            rows.append(
                [
                    name,
                    "",
                    "",
                    "damaged",
                    "",
                    str(error).replace(f"{store.session_folder(name)}/", ""),
                ]
            )
    print(table(["Name", "Created", "Args", "Status", "Summary", "Description"], rows))


def logs(args: Namespace) -> None:
    """Show what a session printed."""
    _print_log(args.session, args.follow)


def stop(args: Namespace) -> None:
    """End a session."""
    runner.stop(args.session)
    print(f"Session {args.session} stopped.")


def resume(args: Namespace) -> None:
    """Let a session go on that has ended."""
    checkpoint = runner.resume(args.session, args.checkpoint)
    print(f"Session {args.session} goes on from checkpoint {checkpoint}.")


def fork(args: Namespace) -> None:
    """Start a session from a checkpoint of another."""
    session = runner.fork(args.session, args.checkpoint, _split(args.args), args.gpus)
    print(
        f"Session {session.name} started from checkpoint {session.checkpoint} of {session.parent}."
    )


def rm(args: Namespace) -> None:
    """Delete sessions that have ended."""
    for name in args.session:
        runner.remove(name)
        print(f"Session {name} deleted.")


def model_ls(args: Namespace) -> None:
    """List the checkpoints of a session."""
    rows = []
    store.read_session(args.session)
    for name in store.checkpoint_names(args.session):
        try:
            note = read_json(store.checkpoint_folder(args.session, name) / "checkpoint.json")
            rows.append(
                [
                    name,
                    ago(note["saved"]),
                    f"{note['seconds']:.1f} s",
                    summary(note["summary"]),
                    size(note["bytes"]),
                ]
            )
        except (AttributeError, TypeError, KeyError, ValueError):
            rows.append([name, "damaged", "", "", ""])
    print(table(["Checkpoint", "Last Modified", "Elapsed", "Summary", "Size"], rows))


def model_pull(args: Namespace) -> None:
    """Copy the files of a checkpoint into a new folder."""
    model, out = _checkpoint_folder(args) / "model", Path(args.path)
    if out.exists():
        raise ValueError(f"{out} is there already: name a new folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as room:
        shutil.copytree(model, Path(room, "model")).rename(out)
    print(f"{out}: checkpoint {args.checkpoint} of {args.session}.")


def model_rm(args: Namespace) -> None:
    """Delete a checkpoint."""
    runner.discard(_checkpoint_folder(args))
    print(f"Checkpoint {args.checkpoint} of {args.session} deleted.")


def submit(args: Namespace) -> int:
    """Answer the test queries with a checkpoint, under a limit of time, and be scored."""
    result = submission.submit(args.session, args.checkpoint, args.limit, args.test, args.verbose)
    print(
        f"Submission {result.number} of {result.session}, checkpoint {result.checkpoint}: {result.status}, ",
        end="",
    )
    print(f"{result.seconds:.1f} s of {result.limit_s:g} s.")
    for metric, value in result.metrics.items():
        print(
            f"  {metric:<20} {value:.0f}"
            if metric.startswith("num_")
            else f"  {metric:<20} {value:.4f}"
        )
    if result.status != "failed":
        return 0
    log = store.session_folder(result.session) / "submissions" / str(result.number) / "log"
    print(f"failed: {result.reason}\nwhat it printed: {log}", file=sys.stderr)
    return 1


def dataset_ls(args: Namespace) -> None:
    """List the data sets."""
    rows = [
        [
            found.name,
            *map(
                str, (found.num_train, found.num_classes, found.num_queries, found.num_references)
            ),
        ]
        + ["yes" if found.has_answers else "no", ago(found.pushed)]
        for found in datasets.listing()
    ]
    print(table(["Name", "Training", "Classes", "Queries", "References", "Scored", "Pushed"], rows))


def dataset_push(args: Namespace) -> None:
    """Make a data set of images, or draw one."""
    if args.draw == bool(args.path):
        raise UsageError("push either a PATH or --draw.")
    if not args.draw and (args.classes is not None or args.seed is not None):
        raise UsageError("--classes and --seed belong to --draw.")
    chosen = {"num_classes": args.classes, "seed": args.seed}
    drawn: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if args.draw:
        pushed = datasets.draw(args.name, **drawn, overwrite=args.overwrite)
    else:
        pushed = datasets.push(args.name, args.path, args.overwrite)
    print(
        f"Data set {args.name}: {pushed.num_train} training images of {pushed.num_classes} classes, ",
        end="",
    )
    print(f"{pushed.num_queries} queries, {pushed.num_references} references.")
    for path, reason in pushed.skipped:
        print(f"left out: {path}: {reason}")
    for note in pushed.notes:
        print(f"note: {note}")


def dataset_rm(args: Namespace) -> None:
    """Delete a data set."""
    datasets.remove(args.name)
    print(f"Data set {args.name} deleted.")


def leaderboard(args: Namespace) -> None:
    """Rank the submissions on a data set."""
    show(args.name, args.full, args.json)


def _split(args: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(args))
    except ValueError as error:
        raise UsageError(f"--args: {error}. Received {args!r}.") from None


def _print_log(name: str, follow: bool) -> None:
    runner.print_chunks(runner.read_log(name, follow))
    state = store.read_state(name)
    if follow and state.status != "exited":
        print(f"Session {name} {state.status}. {state.reason}".rstrip(), file=sys.stderr)


def _checkpoint_folder(args: Namespace) -> Path:
    return store.checkpoint_folder(
        args.session, store.find_checkpoint(args.session, args.checkpoint)
    )
