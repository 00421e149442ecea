"""Define which gallery images are right answers to each query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_io.files.contents import same_images
from data_io.records.checked_arrays import readonly, readonly_texts, set_fields
from data_io.records.image_list import NO_LABEL, ImageList


def _sorted_rows(rows_per_query: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    return tuple(readonly(np.unique(rows), np.int64) for rows in rows_per_query)


def rows_of_keys(query_keys: Sequence[str], gallery_keys: Sequence[str]) -> tuple[np.ndarray, ...]:
    """Return for each query key the gallery rows with the same key, int64, ascending."""
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(gallery_keys):
        rows_of.setdefault(key, []).append(row)
    return tuple(np.asarray(rows_of.get(key, []), np.int64) for key in query_keys)


def _with_own_group(
    query: ImageList,
    gallery: ImageList,
    rows_of_query: Sequence[np.ndarray],
    junk: Sequence[np.ndarray],
) -> Sequence[np.ndarray]:
    """Add the gallery rows of each query's label and group to its junk, if the list says so.

    Args:
        query: the query images.
        gallery: the gallery images.
        rows_of_query: for each query the gallery rows of its label.
        junk: for each query the gallery rows that do not count.

    Returns:
        The junk of each query.
    """
    if not query.same_group_is_junk or query.groups is None or gallery.groups is None:
        return junk
    return [
        np.union1d(own_rows, rows[gallery.groups[rows] == group])
        for own_rows, rows, group in zip(junk, rows_of_query, query.groups, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Relevant and ignored gallery images of each query.

    Attributes:
        query_ids: str [Q].
        num_gallery: number of gallery images.
        relevant: for each query, int64 [R], the gallery rows that are right, ascending.
        junk: for each query, int64 [J], the gallery rows that count neither as right nor as wrong
            (such as the query's own image), ascending.
    """

    query_ids: np.ndarray
    num_gallery: int
    relevant: tuple[np.ndarray, ...]
    junk: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        set_fields(
            self,
            query_ids=readonly_texts(self.query_ids),
            relevant=_sorted_rows(self.relevant),
            junk=_sorted_rows(self.junk),
        )
        if not len(self.query_ids) == len(self.relevant) == len(self.junk):
            raise ValueError(
                "one relevant and one junk list per query. Received "
                f"{len(self.relevant)} and {len(self.junk)} for {len(self.query_ids)} queries."
            )
        for query_id, relevant, junk in zip(self.query_ids, self.relevant, self.junk, strict=True):
            for rows in (relevant, junk):
                if rows.size and (rows[0] < 0 or rows[-1] >= self.num_gallery):
                    raise ValueError(f"rows of {query_id} must be in 0..{self.num_gallery - 1}.")
            if np.intersect1d(relevant, junk).size:
                raise ValueError(f"{query_id}: a gallery row is both relevant and junk.")

    def __len__(self) -> int:
        return len(self.query_ids)

    def of(self, query_ids: np.ndarray) -> GroundTruth:
        """Return the ground truth of some of the queries.

        Args:
            query_ids: str [n], in the wanted order.

        Returns:
            The ground truth of these queries, in the order of `query_ids`.
        """
        row_of = {str(query_id): row for row, query_id in enumerate(self.query_ids)}
        rows = [row_of[str(query_id)] for query_id in query_ids]
        return GroundTruth(
            query_ids,
            self.num_gallery,
            tuple(self.relevant[row] for row in rows),
            tuple(self.junk[row] for row in rows),
        )

    @classmethod
    def from_labels(
        cls,
        query: ImageList,
        gallery: ImageList,
        junk: Sequence[np.ndarray] | None = None,
    ) -> GroundTruth:
        """Build the ground truth from labels.

        A gallery image of the query's label is relevant. A query without a label has no relevant
        image; a gallery image without one is never relevant. The query's own photograph is junk,
        whatever the names of its files in the gallery.

        Args:
            query: the query images.
            gallery: the gallery images.
            junk: for each query int64 [J], the gallery rows that do not count; None = those with
                the content of the query's file.

        Returns:
            The ground truth of all queries.

        Raises:
            ValueError: one of the lists has no labels.
        """
        labels = query.partial_labels("ground truth")
        gallery_labels = gallery.partial_labels("ground truth")
        rows_of_label = {
            label: np.flatnonzero(gallery_labels == label) for label in np.unique(labels)
        }
        rows_of_label[NO_LABEL] = np.zeros(0, np.int64)
        if junk is None:
            keys = same_images([*query.paths.tolist(), *gallery.paths.tolist()])
            junk = rows_of_keys(keys[: len(query)], keys[len(query) :])
        rows_of_query = [rows_of_label[label] for label in labels.tolist()]
        ignored = _with_own_group(query, gallery, rows_of_query, junk)
        relevant = [
            np.setdiff1d(rows_of_label[label], own_rows) if len(own_rows) else rows_of_label[label]
            for label, own_rows in zip(labels, ignored, strict=True)
        ]
        return cls(query.ids, len(gallery), tuple(relevant), tuple(ignored))
