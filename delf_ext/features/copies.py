"""Copies of a query, mirrored or turned: their mean embedding looks past how a photograph was taken.

Source: the original's query expansion from augmented copies of the query; the copies here are the same at every run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from delf_ext.features.extraction import Embeds

CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirror": lambda images: images[:, :, ::-1],
    "turn90": lambda images: np.rot90(images, 1, (1, 2)),
    "turn180": lambda images: np.rot90(images, 2, (1, 2)),
    "turn270": lambda images: np.rot90(images, 3, (1, 2)),
}


@dataclass(frozen=True)
class Changed:
    """A model that sees each batch of photographs changed; change: a name in CHANGES, turns are against the clock."""

    model: Embeds
    change: str

    @property
    def image_size(self) -> int:
        return self.model.image_size

    @property
    def digest(self) -> str:
        return self.model.digest

    def embed(self, images: np.ndarray) -> np.ndarray:
        return self.model.embed(np.ascontiguousarray(CHANGES[self.change](images)))
