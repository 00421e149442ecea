"""Implement the commands of `nsml`.

Each function handles one command and returns its exit code (None means 0). The first line of its
docstring is the command's help.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

from data_io.artifacts import read_json
from delf_ext.config import UsageError
from delf_ext.nsml import datasets, records, runner, store, submission
from delf_ext.nsml.curves import last_summary
from delf_ext.nsml.leaderboard import show
from delf_ext.nsml.tables import ago, size, summary, table


def run(args: Namespace) -> int:
    """Start a session with the code in the current folder."""
    session = runner.run(args.dataset, args.entry, _split(args.args), args.gpus, args.memo)
    print(f"Session {session.name} started.", flush=True)
    if args.verbose:
        command = shlex.join([session.entry, *session.args])
        print(f"{store.session_folder(session.name)}: {command}", flush=True)
    if not args.interactive:
        return 0
    _print_log(session.name, follow=True)
    return 0 if records.read_state(session.name).status == "exited" else 1


def ps(args: Namespace) -> None:
    """List the running sessions."""
    rows = []
    for name in store.session_names():
        folder = store.session_folder(name)
        try:
            session = records.read_session(name)
            state = records.read_state(name)
            if state.status in records.ENDED and not args.all:
                continue
            created = ago(session.created)
            arguments = shlex.join(session.args)
            reported = summary(last_summary(folder))
            description = "; ".join(filter(None, [state.reason, session.memo]))
            rows.append([name, created, arguments, state.status, reported, description])
        except (TypeError, ValueError, OSError) as error:
            reason = str(error).replace(f"{folder}/", "")
            rows.append([name, "", "", "damaged", "", reason])
    print(table(["Name", "Created", "Args", "Status", "Summary", "Description"], rows))


def logs(args: Namespace) -> None:
    """Print the output of a session."""
    _print_log(args.session, args.follow)


def stop(args: Namespace) -> None:
    """End a session."""
    runner.stop(args.session)
    print(f"Session {args.session} stopped.")


def resume(args: Namespace) -> None:
    """Continue a session that has ended, from one of its checkpoints."""
    checkpoint = runner.resume(args.session, args.checkpoint)
    print(f"Session {args.session} continues from checkpoint {checkpoint}.")


def fork(args: Namespace) -> None:
    """Start a session from a checkpoint of another session."""
    session = runner.fork(args.session, args.checkpoint, _split(args.args), args.gpus)
    origin = f"checkpoint {session.checkpoint} of {session.parent}"
    print(f"Session {session.name} started from {origin}.")


def rm(args: Namespace) -> None:
    """Delete sessions that have ended."""
    for name in args.session:
        runner.remove(name)
        print(f"Session {name} deleted.")


def model_ls(args: Namespace) -> None:
    """List the checkpoints of a session."""
    rows = []
    store.existing_session(args.session)
    for name in store.checkpoint_names(args.session):
        try:
            note = read_json(store.checkpoint_folder(args.session, name) / "checkpoint.json")
            elapsed = f"{note['seconds']:.1f} s"
            rows.append(
                [name, ago(note["saved"]), elapsed, summary(note["summary"]), size(note["bytes"])]
            )
        except (AttributeError, TypeError, KeyError, ValueError):
            rows.append([name, "damaged", "", "", ""])
    print(table(["Checkpoint", "Last Modified", "Elapsed", "Summary", "Size"], rows))


def model_pull(args: Namespace) -> None:
    """Copy the files of a checkpoint to a new folder."""
    model = store.find_checkpoint(args.session, args.checkpoint) / "model"
    out = Path(args.path)
    if out.exists():
        raise ValueError(f"{out} exists: give the path of a new folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        shutil.copytree(model, Path(folder, "model")).rename(out)
    print(f"{out}: checkpoint {args.checkpoint} of {args.session}.")


def model_rm(args: Namespace) -> None:
    """Delete a checkpoint."""
    runner.delete_folder(store.find_checkpoint(args.session, args.checkpoint))
    print(f"Checkpoint {args.checkpoint} of {args.session} deleted.")


def submit(args: Namespace) -> int:
    """Answer the test queries with a checkpoint, within a time limit, and score the answer."""
    result = submission.submit(args.session, args.checkpoint, args.limit, args.test, args.verbose)
    print(
        f"Submission {result.number} of {result.session}, checkpoint {result.checkpoint}: "
        f"{result.status}, {result.seconds:.1f} s of {result.limit_s:g} s."
    )
    for metric, value in result.metrics.items():
        num_decimals = 0 if metric.startswith("num_") else 4
        print(f"  {metric:<20} {value:.{num_decimals}f}")
    if result.status != "failed":
        return 0
    log = store.session_folder(result.session) / "submissions" / str(result.number) / "log"
    print(f"failed: {result.reason}\nits output: {log}", file=sys.stderr)
    return 1


def dataset_ls(args: Namespace) -> None:
    """List the data sets."""
    rows = [
        [
            data.name,
            str(data.num_train),
            str(data.num_classes),
            str(data.num_queries),
            str(data.num_references),
            "yes" if data.has_answers else "no",
            ago(data.pushed),
        ]
        for data in datasets.listing()
    ]
    print(table(["Name", "Training", "Classes", "Queries", "References", "Scored", "Pushed"], rows))


def dataset_push(args: Namespace) -> None:
    """Create a data set from images, or from drawn products."""
    if args.draw == bool(args.path):
        raise UsageError("give either a PATH or --draw.")
    drawing = {"num_classes": args.classes, "seed": args.seed}
    given = {name: value for name, value in drawing.items() if value is not None}
    if given and not args.draw:
        raise UsageError("--classes and --seed need --draw.")
    if args.draw:
        pushed = datasets.draw(args.name, **given, overwrite=args.overwrite)
    else:
        pushed = datasets.push(args.name, args.path, args.overwrite)
    print(
        f"Data set {args.name}: {pushed.num_train} training images of {pushed.num_classes} "
        f"classes, {pushed.num_queries} queries, {pushed.num_references} references."
    )
    for path, reason in pushed.skipped:
        print(f"skipped: {path}: {reason}")
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
    log = store.existing_session(name) / "log"
    runner.print_growing(log, lambda: follow and records.is_running(name))
    state = records.read_state(name)
    if follow and state.status != "exited":
        print(f"Session {name} {state.status}. {state.reason}".rstrip(), file=sys.stderr)
