"""Define the list of images that a data set, a split or a folder consists of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_io.records.checked_arrays import readonly, readonly_texts, require_unique, set_fields

NO_LABEL = -1
"""Label of an image whose class is not known."""


@dataclass(frozen=True, eq=False)
class ImageList:
    """Frozen list of images in a fixed order.

    Attributes:
        ids: str [N], unique.
        paths: str [N], the image files.
        labels: int64 [N], or None if no image has one. NO_LABEL (-1) marks an image without a
            label. In a gallery such an image is a distractor: it takes a place in every ranking and
            is never right. As a query it is not scored. Training leaves it out (`labelled`).
        groups: str [N], or None. The part of the data that an image belongs to (a camera, a shop);
            metrics are also reported for each group.
        skipped: (path, reason) of each file that was left out.
        same_group_is_junk: a gallery image of the query's label and group is neither right nor
            wrong. Market-1501 leaves out the photographs of the query's own camera in this way.
    """

    ids: np.ndarray
    paths: np.ndarray
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None
    skipped: tuple[tuple[str, str], ...] = ()
    same_group_is_junk: bool = False

    def __post_init__(self) -> None:
        set_fields(
            self,
            ids=readonly_texts(self.ids),
            paths=readonly_texts(self.paths),
            skipped=tuple(map(tuple, self.skipped)),
        )
        if self.labels is not None:
            set_fields(self, labels=readonly(self.labels, np.int64))
        if self.groups is not None:
            set_fields(self, groups=readonly_texts(self.groups))
        for name in ("paths", "labels", "groups"):
            column = getattr(self, name)
            if column is not None and column.shape != self.ids.shape:
                raise ValueError(
                    f"{name} must have one entry per id. "
                    f"Received {column.shape} for {self.ids.shape} ids."
                )
        require_unique(self.ids, "image ids")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_label(self) -> np.ndarray:
        """Return which images have a label, bool [N]."""
        if self.labels is None:
            return np.zeros(len(self), bool)
        return self.labels != NO_LABEL

    def labelled(self) -> ImageList:
        """Return the images that have a label; all of them if no image has one."""
        return self if self.labels is None or self.has_label.all() else self.take(self.has_label)

    def known_labels(self, purpose: str) -> np.ndarray:
        """Return the labels, or fail if an image has none.

        Args:
            purpose: what needs the labels, for the error.

        Returns:
            int64 [N], none of them NO_LABEL.

        Raises:
            ValueError: an image has no label.
        """
        labels = self.partial_labels(purpose)
        if (labels == NO_LABEL).any():
            num_unknown = int(np.sum(labels == NO_LABEL))
            raise ValueError(
                f"{purpose} needs a label for each image; {num_unknown} of {len(self)} have none."
            )
        return labels

    def partial_labels(self, purpose: str) -> np.ndarray:
        """Return the labels, or fail if no image has one.

        Args:
            purpose: what needs the labels, for the error.

        Returns:
            int64 [N]; NO_LABEL for an image without a label.

        Raises:
            ValueError: the images have no labels.
        """
        if self.labels is None:
            raise ValueError(
                f"{purpose} needs labels; these images have none. Give class folders, a table "
                "whose column label is filled in, or (challenge tree) test/test_labels.csv."
            )
        return self.labels

    def take(
        self, rows: Sequence[int] | np.ndarray, skipped: Sequence[tuple[str, str]] | None = None
    ) -> ImageList:
        """Return some of the images.

        Args:
            rows: int [n] in the wanted order, or a bool mask [N].
            skipped: the skipped files of the result; None keeps those of this list.

        Returns:
            The list of these images.
        """
        rows = np.asarray(rows)
        if rows.dtype != bool:
            rows = rows.astype(np.int64)
        return ImageList(
            self.ids[rows],
            self.paths[rows],
            None if self.labels is None else self.labels[rows],
            None if self.groups is None else self.groups[rows],
            self.skipped if skipped is None else tuple(skipped),
            self.same_group_is_junk,
        )

    def skip(self, reasons: Sequence[str]) -> ImageList:
        """Return the list without the images that have a reason; add those to `skipped`.

        Args:
            reasons: for each image why it is skipped; "" if it is not.

        Returns:
            The list of the other images, in the same order.
        """
        skipped = [
            (str(path), reason) for path, reason in zip(self.paths, reasons, strict=True) if reason
        ]
        is_left = np.array([not reason for reason in reasons], bool)
        return self.take(is_left, skipped=(*self.skipped, *skipped))
