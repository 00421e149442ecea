"""Find photographs that are in queries and gallery more than once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_io.files.contents import same_files, same_images
from data_io.files.names import shown
from data_io.records import NO_LABEL, ImageList
from data_io.records.ground_truth import rows_of_keys

RULES = ("exclude", "count", "error")
NO_ROWS = np.zeros(0, np.int64)
NUM_SHOWN = 5
"""Number of copies, and of photographs with several labels, that get a line each."""


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Photographs that are in queries and gallery more than once.

    Attributes:
        rule: what is done with copies: "exclude" or "count".
        own: for each query, int64 [n], the gallery rows of its own file, also through links.
        copies: for each query, int64 [n], the gallery rows of other files with the same bytes.
        pairs: (path of the query, path of the gallery image) of each query's copies and, if the
            query is listed in the gallery, of its own file.
        num_queries: number of queries in `pairs`.
        num_only_copies: number of queries that are not scored, because all their relevant images
            are left out.
        conflicts: for each photograph with several labels, the paths of its files.
    """

    rule: str
    own: tuple[np.ndarray, ...]
    copies: tuple[np.ndarray, ...]
    pairs: tuple[tuple[str, str], ...]
    num_queries: int
    num_only_copies: int
    conflicts: tuple[tuple[str, ...], ...]

    @property
    def junk(self) -> tuple[np.ndarray, ...]:
        """Gallery rows that do not count, int64 [n] of each query."""
        if self.rule == "count":
            return self.own
        pairs = zip(self.own, self.copies, strict=True)
        return tuple(np.union1d(own, rows) if len(rows) else own for own, rows in pairs)

    def notes(self, num_shown: int = NUM_SHOWN) -> Iterator[str]:
        """Yield lines for a report: the counts, and the first files of each kind.

        Args:
            num_shown: largest number of lines about files of one kind.

        Yields:
            Lines without a line break.
        """
        if self.num_queries:
            one = self.num_queries == 1
            have = "query has" if one else "queries have"
            yield f"{self.num_queries} {have} a copy in the gallery: {self._treatment(one)}"
            yield from _shown(
                [f"copy: {shown(query)} = {shown(image)}" for query, image in self.pairs], num_shown
            )
        if self.num_only_copies:
            are = "query is" if self.num_only_copies == 1 else "queries are"
            yield (
                f"{self.num_only_copies} {are} not scored: all relevant images are copies of the "
                "query"
            )
        if self.conflicts:
            have = "photograph has" if len(self.conflicts) == 1 else "photographs have"
            yield f"{len(self.conflicts)} {have} several labels; check the labels of the data"
            yield from _shown(
                [f"several labels: {' = '.join(map(shown, paths))}" for paths in self.conflicts],
                num_shown,
            )

    def _treatment(self, one: bool) -> str:
        if self.rule == "count":
            return "copies count (--duplicates=count), only a query's own file does not"
        return f"these copies are left out of {'its ranking' if one else 'their rankings'}"

    def figures(self) -> dict[str, Any]:
        """Return the counts and the files as JSON data."""
        return {
            "rule": self.rule,
            "num_queries": self.num_queries,
            "num_only_copies": self.num_only_copies,
            "copies": [list(pair) for pair in self.pairs],
            "conflicting_labels": [list(paths) for paths in self.conflicts],
        }


def find_duplicates(query: ImageList, gallery: ImageList, rule: str = "exclude") -> Duplicates:
    """Find the gallery images that are a query's own photograph, and contradicting labels.

    Files are compared by device and inode, and by content; their names do not count.

    Args:
        query: Q images to search with.
        gallery: images to search in; may be the same list.
        rule: "exclude": copies do not count; "count": only the query's own file does not count;
            "error": copies are refused.

    Returns:
        The duplicates.

    Raises:
        ValueError: the rule is unknown; or it is "error", and a query has a copy in the gallery.
    """
    if rule not in RULES:
        raise ValueError(f"duplicates must be one of {', '.join(RULES)}. Received {rule!r}.")
    paths = [*query.paths.tolist(), *gallery.paths.tolist()]
    files = same_files(paths)
    images = same_images(paths)
    num = len(query)
    own = rows_of_keys(files[:num], files[num:])
    all_copies = rows_of_keys(images[:num], images[num:])
    copies = tuple(
        # Most queries have no copy; this is much faster than setdiff1d for them.
        np.setdiff1d(rows, itself) if len(rows) > len(itself) else NO_ROWS
        for rows, itself in zip(all_copies, own, strict=True)
    )
    is_one_list = query is gallery or paths[:num] == paths[num:]
    # In one list, the query itself is not a copy.
    others = [rows[rows != row] if is_one_list else rows for row, rows in enumerate(all_copies)]
    pairs = [
        (str(query.paths[row]), str(gallery.paths[other]))
        for row, found in enumerate(others)
        for other in found
    ]
    num_queries = sum(bool(len(found)) for found in others)
    if pairs and rule == "error":
        first = " = ".join(map(shown, pairs[0]))
        raise ValueError(
            f"{num_queries} queries have a copy in the gallery; the first: {first}. "
            "Remove the copies, or pass --duplicates=exclude or --duplicates=count."
        )
    excluded = own if rule == "count" else all_copies
    return Duplicates(
        rule=rule,
        own=own,
        copies=copies,
        pairs=tuple(pairs),
        num_queries=num_queries,
        num_only_copies=_num_only_copies(query, gallery, others, excluded),
        conflicts=_conflicts(query, gallery, images),
    )


def _num_only_copies(
    query: ImageList,
    gallery: ImageList,
    others: list[np.ndarray],
    excluded: tuple[np.ndarray, ...],
) -> int:
    """Count the queries that lose all their relevant images because they are copies.

    Args:
        query: Q queries.
        gallery: the gallery.
        others: for each query, the gallery rows of its copies.
        excluded: for each query, the gallery rows that do not count.

    Returns:
        The number.
    """
    if query.labels is None or gallery.labels is None:
        return 0
    number = 0
    for label, rows, left_out in zip(query.labels.tolist(), others, excluded, strict=True):
        if len(rows) and label in gallery.labels[rows] and label != NO_LABEL:
            relevant = np.flatnonzero(gallery.labels == label)
            number += bool(np.isin(relevant, left_out).all())
    return number


def _conflicts(
    query: ImageList, gallery: ImageList, keys: list[str]
) -> tuple[tuple[str, ...], ...]:
    """Return the paths of each photograph that has several labels, each path once."""
    if query.labels is None or gallery.labels is None:
        return ()
    paths_of: dict[str, dict[str, int]] = {}
    labels_of: dict[str, set[int]] = {}
    paths = [*query.paths.tolist(), *gallery.paths.tolist()]
    labels = [*query.labels.tolist(), *gallery.labels.tolist()]
    for key, path, label in zip(keys, paths, labels, strict=True):
        if label != NO_LABEL:
            paths_of.setdefault(key, {})[path] = label
            labels_of.setdefault(key, set()).add(label)
    return tuple(tuple(paths_of[key]) for key, several in labels_of.items() if len(several) > 1)


def _shown(lines: list[str], num_shown: int) -> Iterator[str]:
    yield from lines[:num_shown]
    if len(lines) > num_shown:
        yield f"... and {len(lines) - num_shown} more"
