"""The leaderboard of a data set, derived from the results of its sessions' submissions: there is no second record of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from data_io.artifacts import digest_of, read_json, write_json
from delf_ext.nsml import store
from delf_ext.nsml.datasets import answers_of, existing
from delf_ext.nsml.submission import Result
from delf_ext.nsml.tables import ago, table

METRIC, TIE_BREAKER = "mAP@1000", "recall_at_1"
COLUMNS = {
    "mAP@1000": METRIC,
    "Recall@1": TIE_BREAKER,
    "Recall@5": "recall_at_5",
    "Recall@10": "recall_at_10",
}
FULL_COLUMNS = {**COLUMNS, "mAP": "mAP", "mAP@R": "mAP@R", "Last rank": "mean_last_rank"}
METRICS = FULL_COLUMNS.values()


@dataclass(frozen=True)
class Board:
    """rows: best first. num_failed: submissions; num_outdated: scored on what the data set was before it was pushed again."""

    rows: tuple[Result, ...]
    num_failed: int
    num_outdated: int


def board(dataset: str) -> Board:
    """Best mAP@1000 first, then recall_at_1, then the earlier one. Raises: ValueError when there is no such data set."""
    existing(dataset)
    answers = digest_of(answers_of(dataset))
    results = [result for result in _results(dataset) if not result.test]
    scored = [result for result in results if result.status == "scored"]
    rows = [result for result in scored if result.answers == answers]
    rows.sort(
        key=lambda result: (-result.metrics[METRIC], -result.metrics[TIE_BREAKER], result.submitted)
    )
    num_failed = sum(result.status == "failed" for result in results)
    return Board(tuple(rows), num_failed, len(scored) - len(rows))


def show(dataset: str, full: bool = False, json_path: str | Path | None = None) -> None:
    """Prints the leaderboard; full: more metrics, mAP over whole rankings among them. json_path: writes it there, too."""
    found = board(dataset)
    if json_path:
        write_json(json_path, [asdict(result) for result in found.rows])
    metrics = FULL_COLUMNS if full else COLUMNS
    rows = []
    for rank, result in enumerate(found.rows, start=1):
        values = (f"{result.metrics[metric]:.4f}" for metric in metrics.values())
        rows.append(
            [
                str(rank),
                result.session,
                result.checkpoint,
                *values,
                f"{result.seconds:.1f} s",
                ago(result.submitted),
            ]
        )
    print(table(["Rank", "Session", "Checkpoint", *metrics, "Elapsed", "Submitted"], rows))
    print(f"{len(found.rows)} scored, {found.num_failed} failed")
    if found.num_outdated:
        print(
            f"{found.num_outdated} scored before {dataset} was pushed again: not comparable, left out"
        )


def _results(dataset: str) -> Iterator[Result]:
    """Of all sessions of the data set; a damaged one is named and left out."""
    for session in store.session_names(dataset):
        for path in sorted(store.session_folder(session).glob("submissions/*/result.json")):
            try:
                result = store.typed(Result, read_json(path))
                if result.status == "scored" and not all(
                    isinstance(result.metrics.get(name), float) for name in METRICS
                ):
                    raise ValueError(f"metrics are {result.metrics}")
                yield result
            except (TypeError, ValueError) as error:
                print(f"{path}: left out, damaged ({error})")
