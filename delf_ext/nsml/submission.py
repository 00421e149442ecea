"""Submits a checkpoint: a fresh process answers all queries under a limit of time; its answer is checked and scored."""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from data_io.artifacts import digest_of, read_json, write_json
from data_io.datasets import DataSet, load_dataset
from delf_ext.config import UsageError
from delf_ext.nsml import snapshot, store
from delf_ext.nsml.answers import score, validated
from delf_ext.nsml.datasets import answers_of, existing
from delf_ext.nsml.runner import print_chunks, read_growing
from delf_ext.nsml.store import Session
from delf_ext.nsml.supervisor import Outcome, environment, watch

LIMIT_S = 3600.0  # the hackathon's
MAX_ANSWER_BYTES = 2 * 2**30
NO_ANSWER = (
    "ended without an answer: the entry must accept --mode=test, --iteration and --pause=1, "
    "and call nsml.bind(save=..., load=..., infer=...) and then nsml.paused(scope=locals())."
)


@dataclass(frozen=True)
class Result:
    """What became of a submission, as result.json keeps it.

    status: "scored"; "valid", where it was not to be scored, or the data set has no labels; "failed", and then why.
    test: a trial that the leaderboard does not count; seconds: of the whole process; submitted: Unix seconds; answers: digest
    of the labels that it was scored with.
    """

    session: str
    checkpoint: str
    number: int
    test: bool
    status: str
    reason: str
    metrics: dict[str, float]
    seconds: float
    limit_s: float
    submitted: float
    answers: str


def submit(
    session: str,
    checkpoint: str,
    limit_s: float = LIMIT_S,
    test: bool = False,
    verbose: bool = False,
) -> Result:
    """Runs the session's entry with --mode=test on one of its checkpoints, and writes submissions/K/{log,answer,result}.

    test: checks and times the answer, but keeps it off the leaderboard. verbose: prints the log while it grows.
    Raises: ValueError when there is no such session, checkpoint or data set to answer; OSError when a disk is full.
    """
    if not 0 < limit_s < math.inf:
        raise UsageError(f"--limit must be a number of seconds above 0. Received {limit_s:g}.")
    asked, checkpoint = store.read_session(session), store.find_checkpoint(session, checkpoint)
    data, labels = load_dataset(existing(asked.dataset)), answers_of(asked.dataset)
    if not len(data.query) or not len(data.gallery):
        raise ValueError(
            f"data set {asked.dataset} has no queries or no references: there is nothing to answer."
        )
    folder, submitted = (
        store.next_folder(store.session_folder(asked.name) / "submissions"),
        time.time(),
    )
    outcome = _run(asked, checkpoint, folder, limit_s, verbose)
    status, reason, metrics = _judged(outcome, folder / "answer.json", data, {} if test else labels)
    result = Result(
        session=asked.name,
        checkpoint=checkpoint,
        number=int(folder.name),
        test=test,
        status=status,
        reason=reason,
        metrics=metrics,
        seconds=outcome.seconds,
        limit_s=limit_s,
        submitted=submitted,
        answers=digest_of(labels) if metrics else "",
    )
    write_json(folder / "result.json", asdict(result))
    return result


def _run(session: Session, checkpoint: str, folder: Path, limit_s: float, verbose: bool) -> Outcome:
    command = [
        sys.executable,
        session.entry,
        *session.args,
        "--mode=test",
        f"--iteration={checkpoint}",
        "--pause=1",
    ]
    model, log = store.checkpoint_folder(session.name, checkpoint) / "model", folder / "log"
    log.touch()
    with (
        _own_copy(session, folder / "code") as code,
        _printed(log) if verbose else contextlib.nullcontext(),
    ):
        env = environment(session, code, model) | {
            "NSML_ANSWER": str(folder / "answer.json"),
            "NSML_TIME_LIMIT_S": str(limit_s),
            "NSML_STARTED": str(time.time()),
        }
        return watch(command, code, env, log, limit_s)


@contextmanager
def _own_copy(session: Session, folder: Path) -> Iterator[Path]:
    """The session's code for this submission alone: 2018's entries keep features beside it, whichever checkpoint made them."""
    code = store.session_folder(session.name) / "code"
    try:
        snapshot.copy_code(code, snapshot.code_files(code, session.entry), folder)
        yield folder
        for compiled in folder.rglob(
            "__pycache__/*.nb[ci]"
        ):  # by numba: the next submission need not wait for it
            kept = code / compiled.relative_to(folder)
            with contextlib.suppress(OSError):
                kept.parent.mkdir(exist_ok=True)
                compiled.replace(kept)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _printed(log: Path) -> Iterator[None]:
    """Prints a file while it grows."""
    ended = threading.Event()
    chunks = read_growing(log, lambda: not ended.is_set())
    thread = threading.Thread(target=print_chunks, args=(chunks,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _judged(
    outcome: Outcome, path: Path, data: DataSet, labels: dict[str, str]
) -> tuple[str, str, dict[str, float]]:
    """(status, reason, metrics)."""
    if outcome.timed_out or outcome.exit_code:
        return "failed", outcome.reason, {}
    if not path.is_file():
        return "failed", NO_ANSWER, {}
    if path.stat().st_size > MAX_ANSWER_BYTES:
        return (
            "failed",
            f"an answer of {path.stat().st_size / 2**30:.1f} GB; 2 GB are enough: cut its lists of references.",
            {},
        )
    try:
        ranking = validated(read_json(path), data.query.ids, data.gallery.ids)
        return ("scored", "", score(ranking, labels)) if labels else ("valid", "", {})
    except (ValueError, RecursionError) as error:  # the latter: JSON nested without end
        return "failed", str(error), {}
