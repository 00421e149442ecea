"""Check the answer of `infer` strictly and score it as the 2018 platform did.

Source: the contract of the 2018 platform:
list(zip(range(n), {query: [reference, ...]}.items())).
"""

from __future__ import annotations

import reprlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data_io.records import GroundTruth, Ranking
from delf_ext.evaluation.hits import hits_of
from delf_ext.evaluation.metrics import summarize

# Number of violations that are shown for each rule.
NUM_SHOWN = 10
FORM = "[(0, ('query_0', ['refer_12', ...])), (1, ...), ...]"


class BadAnswer(ValueError):
    """Answer that breaks the contract; the message lists the broken rules and their places."""


class _BrokenRules:
    """Number of violations of each rule, and the places of the first ones."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.places: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, rule: str, template: str, *values: object) -> None:
        """Count a violation; format its place only if it is shown (there may be millions)."""
        self.counts[rule] += 1
        if self.counts[rule] <= NUM_SHOWN:
            self.places[rule].append(template.format(*map(reprlib.repr, values)))

    def error(self) -> BadAnswer:
        """Return the error that lists all violations."""
        lines = [f"the answer must have the form {FORM}:"]
        for rule, places in self.places.items():
            count = self.counts[rule]
            more = ", ..." if count > NUM_SHOWN else ""
            lines.append(f"- {rule}. Violations ({count}): {', '.join(places)}{more}")
        return BadAnswer("\n".join(lines))


def ranking_from_answer(
    answer: Any, query_ids: Iterable[str], reference_ids: Iterable[str]
) -> Ranking:
    """Check an answer and convert it to a ranking.

    Lists are accepted in place of tuples, because JSON has no tuples. A list of references may be
    short but not empty.

    Args:
        answer: what `infer` returned.
        query_ids: [Q] ids of the data set's queries (file names without extension).
        reference_ids: [G] ids of the data set's references.

    Returns:
        Ranking of the Q queries in the order of `query_ids`; shorter lists end with rows of -1.

    Raises:
        BadAnswer: The answer breaks the contract.
    """
    broken = _BrokenRules()
    if not isinstance(answer, (list, tuple)):
        broken.add("the answer must be a list", "it is {}", answer)
        raise broken.error()
    row_of = {str(name): row for row, name in enumerate(reference_ids)}
    rows_of: dict[str, np.ndarray | None] = dict.fromkeys(map(str, query_ids))
    for position, item in enumerate(answer):
        match item:
            case (number, (str(query), list() | tuple() as references)):
                if type(number) is not int or number != position:
                    rule = "the items must have the numbers 0, 1, 2, ..."
                    broken.add(rule, "item {} has {}", position, number)
                if query not in rows_of:
                    broken.add(
                        _rule_of_unknown("query", query, rows_of), "{} (item {})", query, position
                    )
                    continue
                if rows_of[query] is not None:
                    broken.add("each query must be answered once", "{} (item {})", query, position)
                rows_of[query] = _rows(references, row_of, broken, query)
            case _:
                rule = "each item must be (number, (query, [references]))"
                broken.add(rule, "item {} is {}", position, item)
    for query, rows in rows_of.items():
        if rows is None:
            broken.add("every query must be answered", "{}", query)
    if broken.counts:
        raise broken.error()
    return _ranking({query: rows for query, rows in rows_of.items() if rows is not None}, row_of)


def score(ranking: Ranking, labels: Mapping[str, str]) -> dict[str, float]:
    """Compute the metrics of an answer: the challenge's `mAP@1000`, `mAP`, `recall_at_1` and more.

    A reference is relevant if it has the label of the query.

    Args:
        ranking: ranking of Q queries in G references.
        labels: label of every query and reference, by id.

    Returns:
        Metric -> value. `mAP` counts the whole ranking, `mAP@1000` its first 1,000 references.

    Raises:
        ValueError: A label is missing, or no query has a relevant reference.
    """
    missing = [
        name
        for name in (*ranking.gallery_ids.tolist(), *ranking.query_ids.tolist())
        if name not in labels
    ]
    if missing:
        raise ValueError(
            f"the data set has no label for {missing[0]}: push it again with --overwrite."
        )
    rows_by_label: dict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(ranking.gallery_ids.tolist()):
        rows_by_label[labels[name]].append(row)
    relevant = tuple(
        np.array(rows_by_label[labels[name]], np.int64) for name in ranking.query_ids.tolist()
    )
    junk = (np.zeros(0, np.int64),) * len(relevant)
    truth = GroundTruth(ranking.query_ids, len(ranking.gallery_ids), relevant, junk)
    return dict(summarize(hits_of(ranking, truth)))


def _ranking(rows_of: Mapping[str, np.ndarray], row_of: Mapping[str, int]) -> Ranking:
    max_length = max(map(len, rows_of.values()), default=0)
    rows = np.full((len(rows_of), max_length), -1, np.int32)
    for row, answered in zip(rows, rows_of.values(), strict=True):
        row[: len(answered)] = answered
    # An answer has no scores: any falling numbers keep its order.
    scores = np.broadcast_to(-np.arange(max_length, dtype=np.float32), rows.shape)
    query_ids = np.array(list(rows_of))
    gallery_ids = np.array(list(row_of))
    return Ranking(query_ids, gallery_ids, rows, scores, provenance="answer")


def _rows(
    references: Sequence[Any], row_of: Mapping[str, int], broken: _BrokenRules, query: str
) -> np.ndarray:
    """Return the gallery rows of a list of references: int32 [k]; empty if a rule is broken."""
    try:
        rows = np.fromiter(map(row_of.__getitem__, references), np.int32, len(references))
        if len(rows) and len(set(references)) == len(rows):
            return rows
    except (KeyError, TypeError):
        # An unknown reference, or one that is not hashable: find out below.
        pass
    if not references:
        broken.add("each query must have at least one reference", "{}", query)
    seen: set[str] = set()
    for position, name in enumerate(references):
        where = "{} ({}, position {})", name, query, position
        if not isinstance(name, str):
            broken.add("each reference must be a string", *where)
        elif name not in row_of:
            broken.add(_rule_of_unknown("reference", name, row_of), *where)
        elif name in seen:
            broken.add("a reference must not occur twice in a list", *where)
        else:
            seen.add(name)
    return np.zeros(0, np.int32)


def _rule_of_unknown(kind: str, name: str, known: Mapping[str, Any]) -> str:
    """Return the rule that an unknown name breaks; `kind` is "query" or "reference"."""
    file_name = name.rpartition("/")[2]
    if file_name in known or file_name.rpartition(".")[0] in known:
        return f"each {kind} must be named without folder and extension"
    return f"each {kind} must be in the data set"
