"""Embed transformed copies of a query, so that the mean embedding ignores how it was photographed.

Source: the 2018 original, which expands a query by augmented copies. The copies here are fixed, not
random.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image

from data_io.changes.geometry import GRAY
from data_io.directions import directions
from data_io.records import GlobalFeatures
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


def average_copies(copies: Sequence[GlobalFeatures]) -> GlobalFeatures:
    """Average the embeddings of several copies of the same images (original, mirrored, ...).

    A mean without direction leaves the embedding of the first copy. A copy whose embedding failed
    does not count; an image whose first copy failed stays failed.
    Source: the 2018 original's query expansion with augmented copies of the query.

    Args:
        copies: at least one, each with embeddings [N, D] of the same images in the same order.

    Returns:
        Embeddings [N, D] of unit length, with the ids of the first copy.

    Raises:
        ValueError: the copies are of other images, or other models made them.
    """
    if not copies:
        raise ValueError("average_copies needs at least one copy. Received none.")
    first = copies[0]
    for copy in copies[1:]:
        if (
            copy.embeddings.shape != first.embeddings.shape
            or copy.digest != first.digest
            or (copy.ids != first.ids).any()
        ):
            raise ValueError(
                "copies must hold the same images in one order, embedded by one model."
            )
    total = np.sum([copy.embeddings for copy in copies], axis=0, dtype=np.float64)
    total[first.failed] = 0
    embeddings = directions(total, first.embeddings)
    return GlobalFeatures.trusted(
        ids=first.ids, embeddings=embeddings, digest=first.digest, failed=first.failed
    )


def with_copy(model: EmbedsImages | Ensemble, name: str) -> EmbedsImages | Ensemble:
    """Return the model that embeds a transformed copy of each image.

    A store finds an image by the content of its file, so embeddings of copies have stores of
    their own. The digest stays that of the model: embeddings of its copies can be averaged.

    Args:
        model: an embedder, an ensemble, or a class of the user.
        name: key of `COPIES`.

    Returns:
        An Embedder or an Ensemble.

    Raises:
        UsageError: the model is an ensemble with heads.
    """
    if isinstance(model, Ensemble):
        members = tuple(
            _copying(member, name) for member in model.members if isinstance(member, Embedder)
        )
        if len(members) < len(model.members):
            raise UsageError(
                f"{model.name}: a member has a head, so each member averages its own copies; leave "
                f"the copy {name!r} out."
            )
        return dataclasses.replace(model, members=members)
    if isinstance(model, Embedder):
        return _copying(model, name)
    return Embedder(name, model.image_size, model.digest, _transformed(model.embed, name))


def _copying(model: Embedder, name: str) -> Embedder:
    store = None if model.store is None else model.store.of_copy(name)
    embed = _transformed(model.embed, name)
    return dataclasses.replace(model, embed=embed, graph=None, store=store, with_logits=None)


def _transformed(embed: Embed, name: str) -> Embed:
    return lambda images: embed(np.ascontiguousarray(COPIES[name](images)))
