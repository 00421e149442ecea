"""Copies of a query, mirrored or turned: their mean embedding looks past how a photograph was taken.

Source: the original's query expansion from augmented copies of the query; the copies here are the same at every run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from data_io.augmentation import GRAY
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder, EmbedsImages, Ensemble
from delf_ext.recipes import schema


def turned(images: np.ndarray, degrees: float) -> np.ndarray:
    """Return the images turned against the clock; the corners become gray."""
    pictures = (Image.fromarray(image) for image in images)
    return np.stack(
        [
            np.asarray(one.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=GRAY))
            for one in pictures
        ]
    )


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirror": lambda images: images[:, :, ::-1],
    "flip": lambda images: images[:, ::-1],
    "turn45": lambda images: turned(images, 45.0),
    "turn90": lambda images: np.rot90(images, 1, (1, 2)),
    "turn180": lambda images: np.rot90(images, 2, (1, 2)),
    "turn270": lambda images: np.rot90(images, 3, (1, 2)),
    "turn315": lambda images: turned(images, 315.0),
}
"""Name of a copy -> uint8 [B, S, S, 3] to the same. Turns are against the clock."""


@dataclass(frozen=True)
class TransformedEmbedder:
    """A model that sees each batch of photographs changed; change: a name in COPIES."""

    model: EmbedsImages
    change: str

    @property
    def image_size(self) -> int:
        return self.model.image_size

    @property
    def digest(self) -> str:
        return self.model.digest

    def embed(self, images: np.ndarray) -> np.ndarray:
        return self.model.embed(np.ascontiguousarray(COPIES[self.change](images)))


def require_known_copies(names: Iterable[str]) -> None:
    """Raise UsageError that lists the known copies if one of `names` is unknown."""
    for name in names:
        if name not in COPIES:
            raise UsageError(
                f"unknown copy {name!r} (--query_copies, TestTime.copies). "
                f"Known: {', '.join(COPIES)}."
            )


def require_built(test_time: schema.TestTime) -> None:
    """Raise UsageError if `test_time` asks for something that is unknown or not built yet."""
    require_known_copies(test_time.copies)
    if test_time.scales or test_time.join != "mean":
        raise UsageError(
            'TestTime.scales and TestTime.join="concatenation" are not built yet. '
            'Built: copies, "mean".'
        )


def with_copy(model: EmbedsImages | Ensemble, change: str) -> EmbedsImages | Ensemble:
    """Return the model that sees each photograph changed; the copies' embeddings are not stored."""
    if isinstance(model, Ensemble):
        members = tuple(_transformed_member(member, change) for member in model.members)
        return dataclasses.replace(model, members=members)
    return TransformedEmbedder(model, change)


def _transformed_member(member: Embedder, change: str) -> Embedder:
    return dataclasses.replace(member, embed=TransformedEmbedder(member, change).embed, store=None)
