"""Check the answer of `infer` strictly and score it as the 2018 platform did.

Source: the contract of the 2018 platform:
list(zip(range(n), {query: [reference, ...]}.items())).
"""

from __future__ import annotations

import reprlib
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data_io.records import GroundTruth, Ranking
from delf_ext.evaluation.hits import hits_of
from delf_ext.evaluation.metrics import summarize

# Number of violations that are shown for each rule.
NUM_SHOWN = 10
FORM = "[(0, ('query_0', ['refer_12', ...])), (1, ...), ...]"
# Broken rule, format of the place, and values for the format.
Violation = tuple[Any, ...]


def ranking_from_answer(
    answer: Any, query_ids: Iterable[str], reference_ids: Iterable[str]
) -> Ranking:
    """Check an answer and convert it to a ranking.

    Lists are accepted in place of tuples, because JSON has no tuples. A list of references may be
    short but not empty. The number of an item can be anything: it has no meaning for the score.

    Args:
        answer: what `infer` returned.
        query_ids: [Q] ids of the data set's queries (file names without extension).
        reference_ids: [G] ids of the data set's references.

    Returns:
        Ranking of the Q queries in the order of `query_ids`; shorter lists end with rows of -1.

    Raises:
        ValueError: The answer breaks the contract; the message lists the broken rules and places.
    """
    queries = list(map(str, query_ids))
    row_of = {str(name): row for row, name in enumerate(reference_ids)}
    rows_of: dict[str, np.ndarray] = {}
    _require_none(_violations(answer, queries, row_of, rows_of))
    max_length = max(map(len, rows_of.values()), default=0)
    rows = np.full((len(queries), max_length), -1, np.int32)
    for row, query in zip(rows, queries, strict=True):
        row[: len(rows_of[query])] = rows_of[query]
    # An answer has no scores: any falling numbers keep its order.
    scores = np.broadcast_to(-np.arange(max_length, dtype=np.float32), rows.shape)
    gallery_ids = np.array(list(row_of))
    return Ranking(np.array(queries), gallery_ids, rows, scores, provenance="answer")


def score(
    ranking: Ranking, labels: Mapping[str, str], junk: Sequence[np.ndarray] | None = None
) -> dict[str, float]:
    """Compute the metrics of an answer: the challenge's `mAP@1000`, `mAP`, `recall_at_1` and more.

    A reference is relevant if it has the label of the query. A reference without a label is never
    relevant; a query without one is not scored.

    Args:
        ranking: ranking of Q queries in G references.
        labels: label of every query and reference, by id; "" if it has none.
        junk: for each query int64 [J], the references that do not count, because they are the
            query's own photograph; None = no such references.

    Returns:
        Metric -> value. `mAP` counts the whole ranking, `mAP@1000` its first 1,000 references.

    Raises:
        ValueError: An id is missing, or no query has a relevant reference.
    """
    try:
        gallery_labels = [labels[name] for name in ranking.gallery_ids.tolist()]
        query_labels = [labels[name] for name in ranking.query_ids.tolist()]
    except KeyError as error:
        raise ValueError(
            f"the data set has no label for {error.args[0]}: push it again with --overwrite."
        ) from None
    rows_of_label: defaultdict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(gallery_labels):
        if label:
            rows_of_label[label].append(row)
    if junk is None:
        junk = (np.zeros(0, np.int64),) * len(query_labels)
    relevant = tuple(
        np.setdiff1d(np.array(rows_of_label[label], np.int64), own)
        for label, own in zip(query_labels, junk, strict=True)
    )
    truth = GroundTruth(ranking.query_ids, len(gallery_labels), relevant, tuple(junk))
    return dict(summarize(hits_of(ranking, truth)))


def _require_none(violations: Iterable[Violation]) -> None:
    """Raise an error that lists the violations, if there are any."""
    counts: Counter[str] = Counter()
    places: defaultdict[str, list[str]] = defaultdict(list)
    for rule, template, *values in violations:
        counts[rule] += 1
        # There may be millions: format only those that are shown.
        if counts[rule] <= NUM_SHOWN:
            places[rule].append(template.format(*map(reprlib.repr, values)))
    if not counts:
        return
    lines = [f"the answer must have the form {FORM}:"]
    for rule, count in counts.items():
        more = ", ..." if count > NUM_SHOWN else ""
        lines.append(f"- {rule}. Violations ({count}): {', '.join(places[rule])}{more}")
    raise ValueError("\n".join(lines))


def _violations(
    answer: Any, queries: list[str], row_of: dict[str, int], rows_of: dict[str, np.ndarray]
) -> Iterator[Violation]:
    """Yield the violations of an answer, and store each query's rows int32 [k] in `rows_of`."""
    if not isinstance(answer, (list, tuple)):
        yield "the answer must be a list", "it is {}", answer
        return
    known = set(queries)
    for position, item in enumerate(answer):
        match item:
            # The number has no meaning: each call of an entry's `infer` may count from 0.
            case (_, (str(query), list() | tuple() as references)):
                if query not in known:
                    rule = _rule_of_unknown("query", query, known)
                    yield rule, "{} (item {})", query, position
                    continue
                if query in rows_of:
                    yield "each query must be answered once", "{} (item {})", query, position
                rows_of[query] = _rows(references, row_of)
                if not len(rows_of[query]):
                    yield from _bad_references(references, row_of, query)
            case _:
                rule = "each item must be (number, (query, [references]))"
                yield rule, "item {} is {}", position, item
    for query in queries:
        if query not in rows_of:
            yield "every query must be answered", "{}", query


def _rows(references: Sequence[Any], row_of: dict[str, int]) -> np.ndarray:
    """Return the gallery rows of a list of references: int32 [k]; empty if a rule is broken."""
    try:
        rows = np.fromiter(map(row_of.__getitem__, references), np.int32, len(references))
        is_valid = len(set(references)) == len(rows)
    except (KeyError, TypeError):
        # A reference is unknown, or it is not hashable.
        is_valid = False
    return rows if is_valid else np.zeros(0, np.int32)


def _bad_references(
    references: Sequence[Any], row_of: dict[str, int], query: str
) -> Iterator[Violation]:
    if not references:
        yield "each query must have at least one reference", "{}", query
    seen: set[str] = set()
    for position, name in enumerate(references):
        if not isinstance(name, str):
            rule = "each reference must be a string"
        elif name not in row_of:
            rule = _rule_of_unknown("reference", name, row_of)
        elif name in seen:
            rule = "a reference must not occur twice in a list"
        else:
            seen.add(name)
            continue
        yield rule, "{} ({}, position {})", name, query, position


def _rule_of_unknown(kind: str, name: str, known: Container[str]) -> str:
    """Return the rule that an unknown name breaks; `kind` is "query" or "reference"."""
    file_name = name.rpartition("/")[2]
    if file_name in known or file_name.rpartition(".")[0] in known:
        return f"each {kind} must be named without folder and extension"
    return f"each {kind} must be in the data set"
