"""Rank the submissions on a data set, read from the results in its sessions' folders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from data_io.files.artifacts import digest_of, read_json, write_json
from data_io.files.marks import is_ours, marked
from delf_ext.config import UsageError
from delf_ext.nsml import records, store
from delf_ext.nsml.datasets import answers_of, existing
from delf_ext.nsml.submission import Result
from delf_ext.nsml.tables import ago, table

# Column header -> metric.
COLUMNS = {
    "mAP@1000": "mAP@1000",
    "Recall@1": "recall_at_1",
    "Recall@5": "recall_at_5",
    "Recall@10": "recall_at_10",
}
FULL_COLUMNS = {**COLUMNS, "mAP": "mAP", "mAP@R": "mAP@R", "Last rank": "mean_last_rank"}


class Board(NamedTuple):
    """Leaderboard of a data set.

    Attributes:
        rows: results of scored submissions, best first.
        num_failed: number of failed submissions.
        num_outdated: number of submissions scored before the data set was pushed again.
    """

    rows: tuple[Result, ...]
    num_failed: int
    num_outdated: int


def board(dataset: str) -> Board:
    """Rank the submissions: best mAP@1000 first, then best recall_at_1, then the earlier one.

    Args:
        dataset: name of the data set.

    Returns:
        The leaderboard.

    Raises:
        ValueError: There is no such data set.
    """
    existing(dataset)
    answers = digest_of(answers_of(dataset))
    results = [result for result in _results(dataset) if not result.test]
    scored = [result for result in results if result.status == "scored"]
    rows = [result for result in scored if result.answers == answers]
    rows.sort(
        key=lambda row: (-row.metrics["mAP@1000"], -row.metrics["recall_at_1"], row.submitted)
    )
    num_failed = sum(result.status == "failed" for result in results)
    return Board(tuple(rows), num_failed, len(scored) - len(rows))


def show(name: str, *, full: bool = False, json: str = "") -> None:
    """Rank the submissions on a data set.

    Args:
        name: name of the data set.
        full: show more metrics, such as mAP over whole rankings.
        json: JSON file to which the results are also written.

    Raises:
        UsageError: The file exists and holds something else.

    Example:
        nsml leaderboard ir_ph1_v2 --full
    """
    if json and Path(json).is_file() and not is_ours(Path(json)):
        raise UsageError(f"--json={json}: this file exists, and nsml did not write it.")
    ranked = board(name)
    if json:
        write_json(json, marked([asdict(result) for result in ranked.rows]))
    metrics = FULL_COLUMNS if full else COLUMNS
    rows = [
        [
            rank,
            result.session,
            result.checkpoint,
            *(f"{result.metrics[metric]:.4f}" for metric in metrics.values()),
            f"{result.seconds:.1f} s",
            ago(result.submitted),
        ]
        for rank, result in enumerate(ranked.rows, start=1)
    ]
    print(table(["Rank", "Session", "Checkpoint", *metrics, "Elapsed", "Submitted"], rows))
    print(f"{len(ranked.rows)} scored, {ranked.num_failed} failed")
    if ranked.num_outdated:
        print(
            f"{ranked.num_outdated} not shown: scored before {name} was pushed again, "
            "so not comparable"
        )


def _results(dataset: str) -> Iterator[Result]:
    """Yield the results of all sessions on a data set; print the path of each damaged one."""
    for session in store.session_names(dataset):
        for path in sorted(store.session_folder(session).glob("submissions/*/result.json")):
            try:
                result = records.typed(Result, read_json(path))
                metrics = [result.metrics.get(name) for name in FULL_COLUMNS.values()]
                if result.status == "scored" and not all(isinstance(m, float) for m in metrics):
                    raise ValueError(f"metrics are {result.metrics}")
                yield result
            except (TypeError, ValueError) as error:
                print(f"{path}: skipped, because it is damaged ({error})")
