"""Embed transformed copies of an image, so that the embedding ignores how it was photographed.

Source: the 2018 original, which expands a query by augmented copies. The copies here are fixed, not
random. Each copy has a name: "mirror" is the mirror image, "x1.5" the image file decoded at 1.5
times the input size of the model, and "x1.5-mirror" both.
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
from delf_ext.features.embedder import Embed, Embedder, EmbedsImages


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


SIZE = "x"
"""First letter of the name of a copy of another size."""
# As the sizes of a recipe's input.
MIN_PX, MAX_PX = 32, 4096
FLAGS = "(TestTime.scales, --copies, --query_copies)"


def require_known_copies(names: Iterable[str]) -> None:
    """Raise UsageError that lists the known copies if one of `names` is unknown."""
    for name in names:
        if name not in COPIES:
            raise UsageError(
                f"unknown copy {name!r} (--query_copies, --copies, TestTime.copies). "
                f"Known: {', '.join(COPIES)}, and sizes such as x1.5."
            )


def scaled_px(size_px: int, scale: float) -> int:
    """Return the side in pixels of copies of `scale` times the input size.

    Raises:
        UsageError: it is below 32 or above 4096 pixels.
    """
    side_px = round(size_px * scale)
    if not MIN_PX <= side_px <= MAX_PX:
        raise UsageError(
            f"copies of {scale:g} times the image size of {size_px} px {FLAGS} would have "
            f"{side_px} px: they must have {MIN_PX} to {MAX_PX} px."
        )
    return side_px


def at_scale(model: EmbedsImages, scale: float) -> int:
    """Return the side in pixels of copies that a network can embed.

    Args:
        model: a network.
        scale: factor of its input size.

    Returns:
        The side in pixels.

    Raises:
        UsageError: the side is not allowed, or the network takes no other size than its own.
    """
    side_px = scaled_px(model.image_size, scale) if scale != 1 else model.image_size
    if side_px != model.image_size and getattr(model, "at_size", None) is None:
        raise UsageError(
            f"{getattr(model, 'name', 'this model')} takes images of {model.image_size} px only: "
            f"leave out the copies of {side_px} px {FLAGS}."
        )
    return side_px


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


def with_copy(model: EmbedsImages, name: str) -> Embedder:
    """Return the network that embeds a copy of each image.

    A store finds an image by the content of its file, so embeddings of copies have stores of
    their own. The digest stays that of the network: embeddings of its copies can be joined.

    Args:
        model: an embedder, or a class of the user.
        name: from `test_time.copy_names`.

    Returns:
        The network of the copies.

    Raises:
        UsageError: the network takes images of one size only, or the size is not allowed.
    """
    if not isinstance(model, Embedder):
        model = Embedder(name, model.image_size, model.digest, model.embed)
    scale, copy = split_name(name)
    size_px = at_scale(model, scale)
    network = model
    if size_px != model.image_size:
        assert model.at_size is not None
        network = model.at_size(size_px)
    embed = _transformed(network.embed, copy) if copy else network.embed
    store = None if model.store is None else model.store.of_copy(name)
    return dataclasses.replace(model, image_size=size_px, embed=embed, graph=None, store=store)


def split_name(name: str) -> tuple[float, str]:
    """Return the size and the transformation of a copy.

    >>> split_name("x1.5-mirror"), split_name("x1.5"), split_name("mirror")
    ((1.5, 'mirror'), (1.5, ''), (1.0, 'mirror'))
    """
    size, _, copy = name.partition("-") if name.startswith(SIZE) else ("", "", name)
    return float(size.removeprefix(SIZE) or 1), copy


def _transformed(embed: Embed, name: str) -> Embed:
    return lambda images: embed(np.ascontiguousarray(COPIES[name](images)))
