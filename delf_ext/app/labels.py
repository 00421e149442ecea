"""Define the most probable classes of photographs, at each level of their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from delf_ext.evaluation.calibration import first_places

NUM_SHOWN = 3
"""Classes that are listed for each photograph."""


class Level(NamedTuple):
    """Labels of a coarser level.

    Attributes:
        names: str [Q], the most probable label of the level.
        probabilities: float [Q], the sum of the probabilities of its classes.
    """

    names: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, eq=False)
class Labels:
    """The most probable classes of Q photographs.

    Attributes:
        labels: int64 [Q, n], label of each of the first classes; -1 for none.
        probabilities: float [Q, n], their probabilities.
        levels: name of a coarser level -> its labels.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    levels: Mapping[str, Level]

    @staticmethod
    def joined(parts: Sequence[Labels]) -> Labels:
        """Join the labels of several lists of photographs."""
        levels = {
            name: Level(
                np.concatenate([part.levels[name].names for part in parts]),
                np.concatenate([part.levels[name].probabilities for part in parts]),
            )
            for name in parts[0].levels
        }
        return Labels(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
            levels,
        )

    def without(self, failed: np.ndarray) -> Labels:
        """Return the labels; photographs whose embedding failed have none.

        Args:
            failed: bool [Q].

        Returns:
            Labels -1 with probability 0 where `failed`.
        """
        is_failed = failed[:, np.newaxis]
        levels = {
            name: Level(np.where(failed, "", level.names), np.where(failed, 0, level.probabilities))
            for name, level in self.levels.items()
        }
        labels = np.where(is_failed, -1, self.labels)
        return Labels(labels, np.where(is_failed, 0, self.probabilities), levels)


def labels_of(
    table: np.ndarray, originals: np.ndarray, levels: Mapping[str, Sequence[str]]
) -> Labels:
    """Return the most probable classes.

    The label of a coarser level is the one whose classes have the largest sum of probabilities.

    Args:
        table: float [Q, C], probability of each class.
        originals: int [C], label of each class.
        levels: name of a coarser level -> label of each class there, [C].

    Returns:
        The first NUM_SHOWN classes; of equal ones, the first in the gallery.
    """
    order = first_places(table, NUM_SHOWN)
    found = {}
    for level, names in levels.items():
        unique, places = np.unique(np.array(names), return_inverse=True)
        sums = np.zeros((len(table), len(unique)))
        np.add.at(sums.T, places, table.T)
        best = sums.argmax(axis=1)
        found[level] = Level(unique[best], np.minimum(sums.max(axis=1), 1))
    probabilities = np.take_along_axis(table, order, axis=1)
    return Labels(np.asarray(originals)[order], np.minimum(probabilities, 1), found)
