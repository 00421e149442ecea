"""Embed transformed copies of a query, so that the mean embedding ignores how it was photographed.

Source: the 2018 original, which expands a query by augmented copies. The copies here are fixed, not
random.
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


def rotate_on_gray(images: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate images counter-clockwise; the corners become gray.

    Args:
        images: uint8 [B, S, S, 3].
        degrees: angle of the rotation.

    Returns:
        uint8 [B, S, S, 3].
    """
    rotated = [
        Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=GRAY)
        for image in images
    ]
    return np.stack([np.asarray(image) for image in rotated])


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirror": lambda images: images[:, :, ::-1],
    "flip": lambda images: images[:, ::-1],
    "turn45": lambda images: rotate_on_gray(images, 45.0),
    "turn90": lambda images: np.rot90(images, 1, (1, 2)),
    "turn180": lambda images: np.rot90(images, 2, (1, 2)),
    "turn270": lambda images: np.rot90(images, 3, (1, 2)),
    "turn315": lambda images: rotate_on_gray(images, 315.0),
}
"""Name of a copy -> function of uint8 images [B, S, S, 3]; turns are counter-clockwise."""


@dataclass(frozen=True)
class TransformedEmbedder:
    """Embedder that transforms each batch of images first.

    Attributes:
        model: embeds the transformed images.
        transform: a name in COPIES.
    """

    model: EmbedsImages
    transform: str

    @property
    def image_size(self) -> int:
        """Side of the input in pixels."""
        return self.model.image_size

    @property
    def digest(self) -> str:
        """Digest of the model; the transform does not change it."""
        return self.model.digest

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Embed the transformed images.

        Args:
            images: uint8 [B, S, S, 3], before the transform.

        Returns:
            float32 [B, D].
        """
        return self.model.embed(np.ascontiguousarray(COPIES[self.transform](images)))


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


def with_copy(model: EmbedsImages | Ensemble, name: str) -> EmbedsImages | Ensemble:
    """Return the model that embeds a transformed copy of each image, without storing embeddings.

    Stores know images by the content of their files, so an embedding of a copy would be taken
    for the embedding of the image itself.
    """
    if isinstance(model, Ensemble):
        members = tuple(_transformed_member(member, name) for member in model.members)
        return dataclasses.replace(model, members=members)
    return TransformedEmbedder(model, name)


def _transformed_member(member: Embedder, name: str) -> Embedder:
    return dataclasses.replace(member, embed=TransformedEmbedder(member, name).embed, store=None)
