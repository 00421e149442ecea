"""Compare methods on the same queries, the same gallery and the same bootstrap draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from data_io.records import Ranking
from delf_ext.evaluation.hits import Hits
from delf_ext.evaluation.intervals import (
    PairedDifference,
    paired_bootstrap,
    score_interval,
    too_few_note,
)
from delf_ext.evaluation.metrics import average_precisions, last_relevant_ranks, recalls_at_k
from delf_ext.reranking.evidence import Evidence

Interval = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Result of one method.

    Attributes:
        name: of the method.
        hits: of all queries.
        num_skipped: images left out because they cannot be read.
        ranking: its first columns, for pictures.
        evidence: geometric verification of its queries in this gallery; it may be that of another
            ranking of the same images.
    """

    name: str
    hits: Hits
    num_skipped: int = 0
    ranking: Ranking | None = None
    evidence: Evidence | None = None


@dataclass(frozen=True)
class ComparisonRow:
    """Metrics of one method over the common queries, with 95 % intervals.

    Attributes:
        name: of the method.
        mean_average_precision: over the whole ranking.
        map_interval: of the mAP.
        recall_at_1: share of queries.
        recall_interval: of Recall@1.
        recall_at_5: share of queries.
        recall_at_10: share of queries.
        mean_last_rank: mean rank of the last relevant image.
        difference: of the mAP to that of the first row; None in the first row.
        num_queries: scored for all methods.
        num_without_relevant: common queries without a relevant image.
        num_left_out: queries that some method did not rank.
        num_skipped: images that this method could not read.
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
    """Compare results over the queries that all of them have.

    Args:
        results: at least one.
        seed: of the bootstrap.

    Returns:
        One row per result, in their order.

    Raises:
        ValueError: there is no common scored query; or the order of the queries, the size of the
            gallery or the relevant images of a query differ.
    """
    common, num_left_out = common_hits(results)
    first = average_precisions(common[0])
    rows = []
    for number, (result, hits) in enumerate(zip(results, common, strict=True)):
        precisions = average_precisions(hits)
        recalls = recalls_at_k(hits, 1)
        num_scored = int(np.sum(hits.num_relevant > 0))
        rows.append(
            ComparisonRow(
                name=result.name,
                mean_average_precision=float(np.nanmean(precisions)),
                map_interval=score_interval(precisions, seed),
                recall_at_1=float(np.nanmean(recalls)),
                recall_interval=score_interval(recalls, seed),
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
    """Select the queries that all results have.

    Args:
        results: at least one.

    Returns:
        The hits of each result over the common queries, and the number of queries left out.

    Raises:
        ValueError: as `compare`.
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
            f"no query with a relevant image is common to {names}: "
            "were they evaluated on one data set?"
        )
    return common, len(set.union(*ids)) - len(shared)


def _require_same_question(name_a: str, a: Hits, name_b: str, b: Hits) -> None:
    if (a.query_ids != b.query_ids).any():
        raise ValueError(
            f"{name_a} and {name_b} have their queries in another order: "
            "rank both from one list of images."
        )
    other = (a.num_relevant != b.num_relevant) | (a.num_candidates != b.num_candidates)
    if other.any():
        row = int(np.argmax(other))
        raise ValueError(
            f"{name_a} and {name_b} were not evaluated on one gallery: for {a.query_ids[row]}, "
            f"{a.num_relevant[row]} of {a.num_candidates[row]} images are relevant under the one, "
            f"{b.num_relevant[row]} of {b.num_candidates[row]} under the other."
        )


COLUMNS = ("", "mAP", "95 %", "R@1", "95 %", "R@5", "R@10", "last rank", "mAP - first", "95 %", "p")


def table_cells(row: ComparisonRow) -> tuple[str, ...]:
    """Return the texts of one line under COLUMNS."""
    difference: tuple[str, ...] = ("", "", "")
    if row.difference is not None:
        gap = row.difference
        difference = (
            f"{gap.mean:+.4f}",
            f"{gap.low:+.4f} .. {gap.high:+.4f}",
            p_text(gap.p_value),
        )
    return (
        row.name,
        f"{row.mean_average_precision:.4f}",
        interval_text(row.map_interval),
        f"{row.recall_at_1:.4f}",
        interval_text(row.recall_interval),
        f"{row.recall_at_5:.4f}",
        f"{row.recall_at_10:.4f}",
        f"{row.mean_last_rank:.1f}",
        *difference,
    )


def format_table(rows: Sequence[ComparisonRow]) -> str:
    """Format a text table; notes below it count scored and left-out queries, and skipped images."""
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


def difference_line(result: Evaluated, other: Evaluated, seed: int) -> str:
    """Describe the paired test of two methods in one line.

    Args:
        result: a method.
        other: the method that it is compared with.
        seed: of the bootstrap.

    Returns:
        The difference of their mAP, its 95 % interval and p.
    """
    gap = compare([other, result], seed)[1].difference
    assert gap is not None
    gain = f"mAP {gap.mean:+.4f} ({gap.low:+.4f} .. {gap.high:+.4f})"
    return f"{result.name} against {other.name}: {gain}, p {p_text(gap.p_value)}"


def notes(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return lines that count scored queries, left-out queries and skipped images."""
    first = rows[0]
    lines = [f"{first.num_queries} queries scored."]
    too_few = too_few_note(first.num_queries)
    if too_few:
        lines.append(f"warning: {too_few}")
    if first.num_without_relevant:
        lines.append(
            f"{first.num_without_relevant} queries have no relevant image in the gallery "
            "and are not scored."
        )
    if first.num_left_out:
        lines.append(
            f"{first.num_left_out} queries were not ranked by every method "
            "and are left out for all."
        )
    lines += [f"{row.name}: {row.num_skipped} images skipped." for row in rows if row.num_skipped]
    return lines


def interval_text(interval: Interval) -> str:
    """Return "low .. high"."""
    return f"{interval[0]:.4f} .. {interval[1]:.4f}"


def p_text(p_value: float) -> str:
    """Return a p-value with three digits, or "<0.001"."""
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"
