"""What `infer` answers: checked strictly against the contract, and scored as the official code did.

Source: the 2018 platform's contract (DESIGN section 7): list(zip(range(n), {query: [reference, ...]}.items())).
"""

from __future__ import annotations

import reprlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data_io.records import GroundTruth, Ranking
from delf_ext.evaluation.metrics import hits_of, summarize

SHOWN = 10  # places named of each broken rule
FORM = "[(0, ('query_0', ['refer_12', ...])), (1, ...), ...]"


class BadAnswer(ValueError):
    """An answer against the contract; the message has one line for every rule that it breaks, with the first places."""


class _Broken:
    """How often each rule is broken, and where first."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()
        self.places: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, rule: str, where: str, *values: object) -> None:
        """where: a template for the values; an answer may have millions of faults, so only those shown are written out."""
        self.times[rule] += 1
        if self.times[rule] <= SHOWN:
            self.places[rule].append(where.format(*map(reprlib.repr, values)))

    def error(self) -> BadAnswer:
        lines = [f"the answer is not of the form {FORM}:"]
        for rule, places in self.places.items():
            more = ", ..." if self.times[rule] > SHOWN else ""
            lines.append(f"- {rule}. Broken {self.times[rule]}x: {', '.join(places)}{more}")
        return BadAnswer("\n".join(lines))


def validated(answer: Any, query_ids: Iterable[str], reference_ids: Iterable[str]) -> Ranking:
    """The answer as a ranking, its queries in the order of `query_ids`; lists count as tuples, as JSON has none.

    query_ids [Q], reference_ids [G]: of the data set, without extension. A list of references may be short, not empty.
    Raises: BadAnswer naming every rule that is broken.
    """
    broken = _Broken()
    if not isinstance(answer, (list, tuple)):
        broken.add("the answer is a list", "it is {}", answer)
        raise broken.error()
    row_of = {str(name): row for row, name in enumerate(reference_ids)}
    rows_of: dict[str, np.ndarray | None] = dict.fromkeys(map(str, query_ids))
    for place, item in enumerate(answer):
        match item:
            case (number, (str(query), list() | tuple() as references)):
                if type(number) is not int or number != place:
                    broken.add("the numbers are 0, 1, 2, ...", "item {} has {}", place, number)
                if query not in rows_of:
                    broken.add(_why_unknown("query", query, rows_of), "{} (item {})", query, place)
                    continue
                if rows_of[query] is not None:
                    broken.add("a query is answered once", "{} (item {})", query, place)
                rows_of[query] = _rows(references, row_of, broken, query)
            case _:
                broken.add(
                    "every item is (number, (query, [references]))", "item {} is {}", place, item
                )
    for query, rows in rows_of.items():
        if rows is None:
            broken.add("every query is answered", "{}", query)
    if broken.times:
        raise broken.error()
    return _ranking({query: rows for query, rows in rows_of.items() if rows is not None}, row_of)


def score(ranking: Ranking, labels: Mapping[str, str]) -> dict[str, float]:
    """Metric -> value: the challenge's `mAP@1000`, `mAP` over all that was answered, `recall_at_1` and so on.

    labels: of every query and reference; a reference is relevant where its label is the query's.
    Raises: ValueError when a label is missing, or no query has a relevant reference.
    """
    by_label: dict[str, list[int]] = defaultdict(list)
    try:
        for row, name in enumerate(ranking.gallery_ids.tolist()):
            by_label[labels[name]].append(row)
        relevant = tuple(
            np.array(by_label[labels[name]], np.int64) for name in ranking.query_ids.tolist()
        )
    except KeyError as error:
        raise ValueError(
            f"the answers have no label of {error.args[0]}: push the data set again."
        ) from None
    junk = (np.zeros(0, np.int64),) * len(relevant)
    return dict(
        summarize(
            hits_of(
                ranking, GroundTruth(ranking.query_ids, len(ranking.gallery_ids), relevant, junk)
            )
        )
    )


def _ranking(rows_of: Mapping[str, np.ndarray], row_of: Mapping[str, int]) -> Ranking:
    rows = np.full((len(rows_of), max(map(len, rows_of.values()), default=0)), -1, np.int32)
    for row, found in zip(rows, rows_of.values(), strict=True):
        row[: len(found)] = found
    nearness = np.broadcast_to(-np.arange(rows.shape[1], dtype=np.float32), rows.shape)
    return Ranking(
        np.array(list(rows_of)), np.array(list(row_of)), rows, nearness, provenance="answer"
    )


def _rows(
    references: Sequence[Any], row_of: Mapping[str, int], broken: _Broken, query: str
) -> np.ndarray:
    """[k] int32; looked at one by one only where something is wrong."""
    try:
        rows = np.fromiter(map(row_of.__getitem__, references), np.int32, len(references))
        if len(rows) and len(set(references)) == len(rows):
            return rows
    except (KeyError, TypeError):  # unknown; not hashable
        pass
    if not references:
        broken.add("a query has at least one reference", "{}", query)
    seen: set[str] = set()
    for place, name in enumerate(references):
        where = "{} ({}, place {})", name, query, place
        if not isinstance(name, str):
            broken.add("a reference is a string", *where)
        elif name not in row_of:
            broken.add(_why_unknown("reference", name, row_of), *where)
        elif name in seen:
            broken.add("a reference comes once in a list", *where)
        else:
            seen.add(name)
    return np.zeros(0, np.int32)


def _why_unknown(what: str, name: str, known: Mapping[str, Any]) -> str:
    if name.rpartition("/")[2].rpartition(".")[0] in known or name.rpartition("/")[2] in known:
        return f"a {what} is named without folder and extension"
    return f"a {what} is one of the data set's"
