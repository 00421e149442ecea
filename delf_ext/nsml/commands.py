"""Implement the commands of `nsml`.

Each function implements one command and returns its exit code (None means 0). `cli` makes the
command line from it: a keyword-only parameter is a flag, any other is a positional argument. The
docstring is the help: its first line, one line for each argument, and the example at the end.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from data_io.datasets.layouts import AUTO
from data_io.files.artifacts import read_json
from delf_ext.config import UsageError
from delf_ext.nsml import datasets, leaderboard, records, runner, store, submission
from delf_ext.nsml.curves import last_summary
from delf_ext.nsml.tables import ago, size, summary, table

# Commands that consist of two words, by the first word.
GROUPS = {
    "model": "List, copy and delete checkpoints: ls, pull, rm.",
    "dataset": "Create, list and delete data sets, and rank submissions: push, ls, rm, board.",
}


def run(
    *,
    dataset: str,
    entry: str = "main.py",
    args: str = "",
    gpus: int = 1,
    memo: str = "",
    interactive: bool = False,
    verbose: bool = False,
) -> int:
    """Start a session with the code in the current folder.

    Args:
        dataset: data set, see `nsml dataset ls`.
        entry: file or package to run.
        args: arguments of the entry as one string: "--epochs=3 --lr=0.1".
        gpus: number of GPUs that the session can use.
        memo: description that `nsml ps` shows.
        interactive: print the log until the session ends; exit code 1 if it fails.
        verbose: print the session's folder and command.

    Returns:
        Exit code.

    Example:
        nsml run -d ir_ph1_v2 -e dual_main.py -a "--epochs=3 --train_logits" -m "first try"
    """
    session = runner.run(dataset, entry, _split(args), gpus, memo)
    print(f"Session {session.name} started.", flush=True)
    if verbose:
        command = shlex.join([session.entry, *session.args])
        print(f"{store.session_folder(session.name)}: {command}", flush=True)
    if not interactive:
        return 0
    logs(session.name, follow=True)
    return 0 if records.read_state(session.name).status == "exited" else 1


def ps(*, all: bool = False) -> None:
    """List the running sessions.

    Args:
        all: list ended sessions too.

    Example:
        nsml ps -a
    """
    rows = []
    for name in store.session_names():
        folder = store.session_folder(name)
        try:
            session = records.read_session(name)
            state = records.read_state(name)
            if state.status in records.ENDED and not all:
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


def logs(session: str, *, follow: bool = False) -> None:
    """Print the output of a session.

    Args:
        session: name of the session: USER/DATASET/N.
        follow: continue until the session ends.

    Example:
        nsml logs -f you/ir_ph1_v2/1
    """
    log = store.existing_session(session) / "log"
    runner.print_growing(log, lambda: follow and records.is_running(session))
    state = records.read_state(session)
    if follow and state.status != "exited":
        print(f"Session {session} {state.status}. {state.reason}".rstrip(), file=sys.stderr)


def stop(session: str) -> None:
    """End a session.

    Args:
        session: name of the session: USER/DATASET/N.

    Example:
        nsml stop you/ir_ph1_v2/1
    """
    runner.stop(session)
    print(f"Session {session} stopped.")


def resume(session: str, checkpoint: str = "") -> None:
    """Restart an ended session from one of its checkpoints.

    Args:
        session: name of the session: USER/DATASET/N.
        checkpoint: name of the checkpoint (default: the newest).

    Example:
        nsml resume you/ir_ph1_v2/1
    """
    checkpoint = runner.resume(session, checkpoint)
    print(f"Session {session} continues from checkpoint {checkpoint}.")


def fork(session: str, checkpoint: str = "", *, args: str = "", gpus: int | None = None) -> None:
    """Start a session from a checkpoint of another session.

    Args:
        session: name of the other session: USER/DATASET/N.
        checkpoint: name of the checkpoint (default: the newest).
        args: further arguments of the entry as one string: "--epochs=3 --lr=0.1".
        gpus: number of GPUs (default: as many as the other session).

    Example:
        nsml fork you/ir_ph1_v2/1 200 -a "--lr=1e-5"
    """
    forked = runner.fork(session, checkpoint, _split(args), gpus)
    origin = f"checkpoint {forked.checkpoint} of {forked.parent}"
    print(f"Session {forked.name} started from {origin}.")


def rm(session: list[str]) -> None:
    """Delete sessions that have ended.

    Args:
        session: names of the sessions: USER/DATASET/N.

    Example:
        nsml rm you/ir_ph1_v2/1 you/ir_ph1_v2/2
    """
    for name in session:
        runner.remove(name)
        print(f"Session {name} deleted.")


def model_ls(session: str) -> None:
    """List the checkpoints of a session.

    Args:
        session: name of the session: USER/DATASET/N.

    Example:
        nsml model ls you/ir_ph1_v2/1
    """
    rows = []
    for name in store.checkpoint_names(session):
        try:
            note = read_json(store.checkpoint_folder(session, name) / "checkpoint.json")
            elapsed = f"{note['seconds']:.1f} s"
            rows.append(
                [name, ago(note["saved"]), elapsed, summary(note["summary"]), size(note["bytes"])]
            )
        except (AttributeError, TypeError, KeyError, ValueError):
            rows.append([name, "damaged", "", "", ""])
    print(table(["Checkpoint", "Last Modified", "Elapsed", "Summary", "Size"], rows))


def model_pull(session: str, checkpoint: str, path: str) -> None:
    """Copy the files of a checkpoint to a new folder.

    Args:
        session: name of the session: USER/DATASET/N.
        checkpoint: name of the checkpoint, see `nsml model ls`.
        path: folder to create.

    Raises:
        ValueError: The folder exists.

    Example:
        nsml model pull you/ir_ph1_v2/1 200 pulled
    """
    model = store.find_checkpoint(session, checkpoint) / "model"
    out = Path(path)
    if out.exists():
        raise ValueError(f"{out} exists: give the path of a new folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        shutil.copytree(model, Path(folder, "model")).rename(out)
    print(f"{out}: checkpoint {checkpoint} of {session}.")


def model_rm(session: str, checkpoint: str) -> None:
    """Delete a checkpoint.

    Args:
        session: name of the session: USER/DATASET/N.
        checkpoint: name of the checkpoint, see `nsml model ls`.

    Example:
        nsml model rm you/ir_ph1_v2/1 200
    """
    runner.delete_folder(store.find_checkpoint(session, checkpoint))
    print(f"Checkpoint {checkpoint} of {session} deleted.")


def submit(
    session: str,
    checkpoint: str = "",
    *,
    limit: float = submission.LIMIT_S,
    test: bool = False,
    verbose: bool = False,
) -> int:
    """Answer the test queries with a checkpoint, within a time limit, and score the answer.

    Args:
        session: name of the session: USER/DATASET/N.
        checkpoint: name of the checkpoint (default: the newest).
        limit: time limit in seconds.
        test: only check and time the answer; the leaderboard does not count it.
        verbose: print the log.

    Returns:
        Exit code: 1 if the submission failed.

    Example:
        nsml submit you/ir_ph1_v2/1 200 --limit=600
    """
    result = submission.submit(session, checkpoint, limit, test, verbose)
    print(
        f"Submission {result.number} of {result.session}, checkpoint {result.checkpoint}: "
        f"{result.status}, {result.seconds:.1f} s of {result.limit_s:g} s."
    )
    for metric, value in result.metrics.items():
        num_decimals = 0 if metric.startswith("num_") else 4
        print(f"  {metric:<20} {value:.{num_decimals}f}")
    for note in result.notes:
        print(note)
    if result.status != "failed":
        return 0
    log = store.session_folder(result.session) / "submissions" / str(result.number) / "log"
    print(f"failed: {result.reason}\nits output: {log}", file=sys.stderr)
    return 1


def dataset_ls() -> None:
    """List the data sets.

    Example:
        nsml dataset ls
    """
    rows = [
        [
            data.name,
            data.num_train,
            data.num_classes,
            data.num_queries,
            data.num_references,
            "yes" if data.has_answers else "no",
            ago(data.pushed),
        ]
        for data in datasets.listing()
    ]
    print(table(["Name", "Training", "Classes", "Queries", "References", "Scored", "Pushed"], rows))


def dataset_push(
    name: str,
    path: str = "",
    *,
    draw: bool = False,
    classes: int = 1000,
    seed: int = 0,
    overwrite: bool = False,
    merge_labels: bool = False,
    layout: str = AUTO,
) -> None:
    """Create a data set from images, or from drawn products.

    Args:
        name: name of the data set.
        path: images: class folders, a CSV file, or any other form that `mandoo --data` reads.
        draw: draw products instead; by default as many as in round 1 of the hackathon.
        classes: with --draw: number of products.
        seed: with --draw: seed of the drawing.
        overwrite: replace a data set of that name.
        merge_labels: join labels that differ only in how they are written, such as Milk and milk.
        layout: how to read a folder, as for `mandoo --data_layout`; auto finds out.

    Raises:
        UsageError: The flags do not fit together.

    Example:
        nsml dataset push covers photos/ --overwrite
    """
    if draw == bool(path):
        raise UsageError("give either a PATH or --draw.")
    if draw:
        pushed = datasets.draw(name, classes, seed, overwrite)
    elif (classes, seed) != (1000, 0):
        raise UsageError("--classes and --seed need --draw.")
    else:
        pushed = datasets.push(name, path, overwrite, merge_labels, layout)
        print(f"data: {pushed.read_as}")
    print(
        f"Data set {name}: {pushed.num_train} training images of {pushed.num_classes} "
        f"classes, {pushed.num_queries} queries, {pushed.num_references} references."
    )
    for skipped, reason in pushed.skipped:
        print(f"skipped: {skipped}: {reason}")
    for note in pushed.notes:
        print(f"note: {note}")


def dataset_rm(name: str) -> None:
    """Delete a data set.

    Args:
        name: name of the data set.

    Example:
        nsml dataset rm covers
    """
    datasets.remove(name)
    print(f"Data set {name} deleted.")


def _split(args: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(args))
    except ValueError as error:
        raise UsageError(f"--args: {error}. Received {args!r}.") from None


# Name of each command, in the order of the help.
COMMANDS: dict[str, Callable[..., int | None]] = {
    "run": run,
    "ps": ps,
    "logs": logs,
    "stop": stop,
    "resume": resume,
    "fork": fork,
    "rm": rm,
    "model ls": model_ls,
    "model pull": model_pull,
    "model rm": model_rm,
    "submit": submit,
    "dataset ls": dataset_ls,
    "dataset push": dataset_push,
    "dataset rm": dataset_rm,
    "dataset board": leaderboard.show,
    "leaderboard": leaderboard.show,
}
