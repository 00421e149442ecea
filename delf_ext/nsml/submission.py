"""Submit a checkpoint: a new process answers all queries in limited time; score its answer."""

from __future__ import annotations

import math
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from data_io.datasets import DataSet, load_dataset
from data_io.duplicates import find_duplicates
from data_io.files.artifacts import digest_of, read_json, write_json
from data_io.records import Ranking
from delf_ext.config import UsageError
from delf_ext.nsml import records, snapshot, store
from delf_ext.nsml.answers import ranking_from_answer, score
from delf_ext.nsml.datasets import answers_of, existing
from delf_ext.nsml.processes import Outcome, watch
from delf_ext.nsml.records import Session
from delf_ext.nsml.runner import print_growing
from delf_ext.nsml.supervisor import environment

# The time limit of the hackathon.
LIMIT_S = 3600.0
MAX_ANSWER_BYTES = 2 * 2**30
NO_ANSWER = (
    "the process ended without an answer: the entry must accept --mode=test, --iteration and "
    "--pause=1, and call nsml.bind(save=..., load=..., infer=...) and then "
    "nsml.paused(scope=locals())."
)


@dataclass(frozen=True)
class Result:
    """Result of a submission, as stored in result.json.

    Attributes:
        session: name of the session.
        checkpoint: name of its checkpoint.
        number: number of the submission in its session, from 1.
        test: whether it is a trial that the leaderboard does not count.
        status: "scored"; "valid" if it is a trial or the data set has no labels; or "failed".
        reason: why the submission failed, or "".
        metrics: metric -> value; empty unless scored.
        seconds: run time of the process.
        limit_s: time limit in seconds.
        submitted: Unix seconds.
        answers: digest of the labels that it was scored with, or "".
        notes: remarks about the score, such as copies of queries that did not count.
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
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # JSON has no tuples.
        object.__setattr__(self, "notes", tuple(self.notes))


def submit(
    session: str,
    checkpoint: str,
    limit_s: float = LIMIT_S,
    test: bool = False,
    verbose: bool = False,
) -> Result:
    """Run a session's entry with --mode=test on a checkpoint and score its answer.

    The folder submissions/K of the session gets log, answer.json and result.json.

    Args:
        session: name of the session.
        checkpoint: name of its checkpoint; "" for the newest one.
        limit_s: time limit in seconds.
        test: check and time the answer, but do not score it.
        verbose: print the log while the process runs.

    Returns:
        The result.

    Raises:
        UsageError: The limit is not a positive number.
        ValueError: The session, checkpoint or data set does not exist, or there are no queries.
        OSError: The disk is full.
    """
    if not 0 < limit_s < math.inf:
        raise UsageError(f"--limit must be a number of seconds above 0. Received {limit_s:g}.")
    submitting = records.read_session(session)
    checkpoint_folder = store.find_checkpoint(session, checkpoint)
    data = load_dataset(existing(submitting.dataset))
    labels = answers_of(submitting.dataset)
    if not len(data.query) or not len(data.gallery):
        raise ValueError(
            f"data set {submitting.dataset} has no queries or no references: "
            "there is nothing to answer."
        )
    folder = store.next_folder(store.session_folder(session) / "submissions")
    submitted = time.time()
    outcome = _run(submitting, checkpoint_folder, folder, limit_s, verbose)
    reason = ""
    metrics = {}
    notes: tuple[str, ...] = ()
    try:
        ranking = _ranking(outcome, folder / "answer.json", data)
        if labels and not test:
            duplicates = find_duplicates(data.query, data.gallery)
            metrics = score(ranking, labels, duplicates.junk)
            notes = tuple(duplicates.notes())
        status = "scored" if metrics else "valid"
    except (ValueError, RecursionError) as error:
        # JSON that is nested too deeply raises a RecursionError.
        status = "failed"
        reason = str(error)
    result = Result(
        session=submitting.name,
        checkpoint=checkpoint_folder.name,
        number=int(folder.name),
        test=test,
        status=status,
        reason=reason,
        metrics=metrics,
        seconds=outcome.seconds,
        limit_s=limit_s,
        submitted=submitted,
        answers=digest_of(labels) if metrics else "",
        notes=notes,
    )
    write_json(folder / "result.json", asdict(result))
    return result


def _run(
    session: Session, checkpoint: Path, folder: Path, limit_s: float, verbose: bool
) -> Outcome:
    flags = ["--mode=test", f"--iteration={checkpoint.name}", "--pause=1"]
    model = str(checkpoint / "model")
    command = [sys.executable, session.entry, *session.args, *flags]
    log = folder / "log"
    log.touch()
    printing = _printed(log) if verbose else nullcontext()
    with _copied_code(session, folder / "code") as code, printing:
        env = environment(session, code, model) | {
            "NSML_ANSWER": str(folder / "answer.json"),
            "NSML_DEADLINE": str(time.time() + limit_s),
        }
        return watch(command, code, env, log, limit_s)


@contextmanager
def _copied_code(session: Session, folder: Path) -> Iterator[Path]:
    """Yield a copy of the session's code, which is deleted afterwards."""
    # Entries of 2018 store the features of a checkpoint beside the code, under a fixed name.
    code = store.session_folder(session.name) / "code"
    try:
        snapshot.copy_code(code, snapshot.code_files(code, session.entry), folder)
        yield folder
        # Keep the functions that numba compiled, so that the next submission is faster.
        for compiled in folder.rglob("__pycache__/*.nb[ci]"):
            kept = code / compiled.relative_to(folder)
            with suppress(OSError):
                kept.parent.mkdir(exist_ok=True)
                compiled.replace(kept)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _printed(log: Path) -> Iterator[None]:
    """Print a file while it grows, until the end of the block."""
    ended = threading.Event()
    arguments = (log, lambda: not ended.is_set())
    thread = threading.Thread(target=print_growing, args=arguments, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _ranking(outcome: Outcome, path: Path, data: DataSet) -> Ranking:
    """Return the answer of a submission as a ranking.

    Raises:
        ValueError: The submission failed, or its answer breaks the contract.
    """
    if outcome.reason:
        raise ValueError(outcome.reason)
    if not path.is_file():
        raise ValueError(NO_ANSWER)
    num_bytes = path.stat().st_size
    if num_bytes > MAX_ANSWER_BYTES:
        raise ValueError(
            f"the answer has {num_bytes / 2**30:.1f} GB; at most 2 GB are allowed: "
            "shorten its lists of references."
        )
    return ranking_from_answer(read_json(path), data.query.ids, data.gallery.ids)
