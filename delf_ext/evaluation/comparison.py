"""Several results side by side: the same queries, the same gallery, the same resampled draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from data_io.records import Ranking
from delf_ext.evaluation.hits import Hits
from delf_ext.evaluation.intervals import PairedDifference, bootstrap_interval, paired_bootstrap
from delf_ext.evaluation.metrics import average_precisions, last_relevant_ranks, recalls_at_k
from delf_ext.reranking.evidence import Evidence

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """One method's result. num_skipped: images left out as unreadable; ranking: its first columns, for pictures; evidence: what
    verification found for its queries in this gallery, whether it has re-ranked this ranking or is to explain another one."""

    name: str
    hits: Hits
    num_skipped: int = 0
    ranking: Ranking | None = None
    evidence: Evidence | None = None


@dataclass(frozen=True)
class ComparisonRow:
    """One method's metrics over the common queries, intervals of 95 %. difference: of mAP to the first row (there None).

    num_queries: scored by all methods; num_without_relevant: common, but nothing to find; num_left_out: not ranked by all.
    """

    name: str
    mean_average_precision: float
    map_interval: Interval
    recall_at_1: float
    recall_interval: Interval
    recall_at_5: float
    recall_at_10: float
    mean_last_rank: float
    difference: PairedDifference | None
    num_queries: int
    num_without_relevant: int
    num_left_out: int
    num_skipped: int


def compare(results: Sequence[Evaluated], seed: int) -> list[ComparisonRow]:
    """One row per result, in the order given, all over the queries that every result has.

    Raises: ValueError when there is no common scored query, or when queries stand in another order, or when the results
    are not of one gallery (another number of images, or of relevant ones, for the same query).
    """
    common, num_left_out = common_hits(results)
    first = average_precisions(common[0])
    rows = []
    for number, (result, hits) in enumerate(zip(results, common, strict=True)):
        precisions, recalls = average_precisions(hits), recalls_at_k(hits, 1)
        num_scored = int(np.sum(hits.num_relevant > 0))
        rows.append(
            ComparisonRow(
                name=result.name,
                mean_average_precision=float(np.nanmean(precisions)),
                map_interval=bootstrap_interval(precisions, seed),
                recall_at_1=float(np.nanmean(recalls)),
                recall_interval=bootstrap_interval(recalls, seed),
                recall_at_5=float(np.nanmean(recalls_at_k(hits, 5))),
                recall_at_10=float(np.nanmean(recalls_at_k(hits, 10))),
                mean_last_rank=float(np.nanmean(last_relevant_ranks(hits))),
                difference=paired_bootstrap(precisions, first, seed) if number else None,
                num_queries=num_scored,
                num_without_relevant=len(hits) - num_scored,
                num_left_out=num_left_out,
                num_skipped=result.num_skipped,
            )
        )
    return rows


def common_hits(results: Sequence[Evaluated]) -> tuple[list[Hits], int]:
    """Every result's hits over the queries that all have, and how many queries are not common to all.

    Raises: ValueError as `compare` does.
    """
    if not results:
        raise ValueError("a comparison needs at least one result.")
    ids = [set(result.hits.query_ids.tolist()) for result in results]
    shared = set.intersection(*ids)
    common = [
        result.hits.take(np.array([i in shared for i in result.hits.query_ids.tolist()], bool))
        for result in results
    ]
    for result, hits in zip(results[1:], common[1:], strict=True):
        _require_same_question(results[0].name, common[0], result.name, hits)
    if not np.any(common[0].num_relevant > 0):
        names = ", ".join(result.name for result in results)
        raise ValueError(
            f"no query with a relevant image is common to {names}: were they evaluated on one data set?"
        )
    return common, len(set.union(*ids)) - len(shared)


def _require_same_question(name_a: str, a: Hits, name_b: str, b: Hits) -> None:
    if (a.query_ids != b.query_ids).any():
        raise ValueError(
            f"{name_a} and {name_b} have their queries in another order: rank both from one list of images."
        )
    other = (a.num_relevant != b.num_relevant) | (a.num_candidates != b.num_candidates)
    if other.any():
        row = int(np.argmax(other))
        raise ValueError(
            f"{name_a} and {name_b} were not evaluated on one gallery: for {a.query_ids[row]}, {a.num_relevant[row]} of "
            f"{a.num_candidates[row]} images are relevant under the one, "
            f"{b.num_relevant[row]} of {b.num_candidates[row]} under the other."
        )


COLUMNS = ("", "mAP", "95 %", "R@1", "95 %", "R@5", "R@10", "last rank", "mAP - first", "95 %", "p")


def table_cells(row: ComparisonRow) -> tuple[str, ...]:
    """The texts of one line under COLUMNS."""
    difference: tuple[str, ...] = ("", "", "")
    if row.difference is not None:
        gap = row.difference
        difference = (
            f"{gap.mean:+.4f}",
            f"{gap.low:+.4f} .. {gap.high:+.4f}",
            _p_text(gap.p_value),
        )
    return (
        row.name,
        f"{row.mean_average_precision:.4f}",
        _interval_text(row.map_interval),
        f"{row.recall_at_1:.4f}",
        _interval_text(row.recall_interval),
        f"{row.recall_at_5:.4f}",
        f"{row.recall_at_10:.4f}",
        f"{row.mean_last_rank:.1f}",
        *difference,
    )


def format_table(rows: Sequence[ComparisonRow]) -> str:
    """Format a text table, followed by the notes of `notes`."""
    table = tabulate(
        [table_cells(row) for row in rows],
        headers=COLUMNS,
        tablefmt="plain",
        disable_numparse=True,
        colalign=("left", *["right"] * (len(COLUMNS) - 1)),
    )
    header, *lines = [line.rstrip() for line in table.splitlines()]
    ruler = "-" * max(map(len, (header, *lines)))
    return "\n".join([header, ruler, *lines, ruler, *notes(rows)])


def notes(rows: Sequence[ComparisonRow]) -> list[str]:
    """What the table does not show: how many queries were scored, left out, without relevant image; skipped images."""
    first = rows[0]
    lines = [f"{first.num_queries} queries scored."]
    if first.num_without_relevant:
        lines.append(
            f"{first.num_without_relevant} queries have no relevant image in the gallery and are not scored."
        )
    if first.num_left_out:
        lines.append(
            f"{first.num_left_out} queries were not ranked by every method and are left out for all."
        )
    lines += [f"{row.name}: {row.num_skipped} images skipped." for row in rows if row.num_skipped]
    return lines


def _interval_text(interval: Interval) -> str:
    return f"{interval[0]:.4f} .. {interval[1]:.4f}"


def _p_text(p_value: float) -> str:
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"
