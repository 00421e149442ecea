"""Embed transformed copies of a query, so that the mean embedding ignores how it was photographed.

Source: the 2018 original, which expands a query by augmented copies. The copies here are fixed, not
random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image

from data_io.augmentation import GRAY
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embed, Embedder, EmbedsImages, Ensemble
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
        members = tuple(
            dataclasses.replace(member, embed=_transformed(member.embed, name), store=None)
            for member in model.members
        )
        return dataclasses.replace(model, members=members)
    return Embedder(name, model.image_size, model.digest, _transformed(model.embed, name))


def _transformed(embed: Embed, name: str) -> Embed:
    return lambda images: embed(np.ascontiguousarray(COPIES[name](images)))
