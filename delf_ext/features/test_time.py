"""Choose and join the copies of an image that are embedded with it: `TestTime` of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from data_io.directions import directions
from data_io.records import GlobalFeatures
from delf_ext.config import UsageError
from delf_ext.features.embedder import Adapted, EmbedsImages, Ensemble
from delf_ext.features.query_copies import (
    SIZE,
    at_scale,
    average_copies,
    require_known_copies,
    split_name,
)
from delf_ext.recipes.schema import TestTime

NO_COPIES = TestTime()


def named_copies(names: Sequence[str], join: str = "mean", queries_only: bool = False) -> TestTime:
    """Return the record of copies that a user named.

    Args:
        names: of transformations and sizes, such as "mirror" and "x1.5"; every size also has every
            transformation.
        join: "mean" or "concatenation", see `TestTime`.
        queries_only: embed the gallery without copies.

    Returns:
        The record.

    Raises:
        UsageError: a name is unknown, or the values do not fit together.
    """
    scales: list[float] = []
    copies: list[str] = []
    for name in names:
        try:
            scales.append(float(name.removeprefix(SIZE) if name.startswith(SIZE) else ""))
        except ValueError:
            copies.append(name)
    require_known_copies(copies)
    return TestTime(tuple(copies), tuple(scales), join, queries_only)  # type: ignore[arg-type]


def copy_names(test_time: TestTime) -> list[str]:
    """Return the names of all copies, without the image itself; the largest sizes come last.

    >>> copy_names(TestTime(("mirror",), (1.5, 1.0)))
    ['mirror', 'x1.5', 'x1.5-mirror']
    """
    names = list(test_time.copies)
    for scale in _other_scales(test_time):
        names.append(f"{SIZE}{scale}")
        names += [f"{SIZE}{scale}-{name}" for name in test_time.copies]
    return names


def _other_scales(test_time: TestTime) -> list[float]:
    return sorted(set(test_time.scales) - {1.0})


def copies_of(
    model: EmbedsImages | Ensemble | Adapted, test_time: TestTime | None
) -> list[TestTime]:
    """Return the copies for each network of a model, in the order of `networks_of`.

    Args:
        model: the model.
        test_time: the copies for all networks; None = those of each head, or of the recipe of a
            network without a head.

    Returns:
        One record for each network.

    Raises:
        UsageError: a network cannot embed these copies.
    """
    if isinstance(model, Adapted):
        own = copies_of(model.base, model.test_time)
        if test_time is None:
            return own
        asked = copies_of(model.base, test_time)
        _require_dimension(model, own, asked)
        return asked
    if isinstance(model, Ensemble):
        return [one for member in model.members for one in copies_of(member, test_time)]
    if test_time is None:
        test_time = getattr(model, "test_time", TestTime())
    require_known_copies(test_time.copies)
    for scale in _other_scales(test_time):
        at_scale(model, scale)
    return [test_time]


def _require_dimension(model: Adapted, own: list[TestTime], asked: list[TestTime]) -> None:
    """Raise UsageError if copies would give embeddings of another dimension than the head takes.

    Without this, the error would come after all images are embedded.

    Args:
        model: the model.
        own: the copies that its head was fitted on, for each network.
        asked: other copies.

    Raises:
        UsageError: the dimension differs.
    """
    parts = [[_num_parts(one) for one in copies] for copies in (own, asked)]
    if model.projection is None or parts[0] == parts[1]:
        return
    fitted, received = [", ".join(map(str, numbers)) for numbers in parts]
    raise UsageError(
        f"{model.name}: its head was fitted on embeddings of {fitted} concatenated size(s), and "
        f"these copies give {received}. Leave out --copies, --query_copies and "
        "--concatenate_sizes, or pass as many sizes."
    )


def _num_parts(test_time: TestTime) -> int:
    """Return how many embeddings are concatenated."""
    return 1 + len(_other_scales(test_time)) * (test_time.join == "concatenation")


def in_gallery(test_time: TestTime) -> TestTime:
    """Return the copies of gallery images: none if `test_time` is for queries only."""
    return replace(test_time, copies=(), scales=()) if test_time.queries_only else test_time


def join_copies(features: Mapping[str, GlobalFeatures], test_time: TestTime) -> GlobalFeatures:
    """Join the embeddings of an image and its copies.

    A mean is that of all unit vectors. A concatenation has one part for each size: the mean of the
    copies of this size.

    Args:
        features: name of the copy -> embeddings [N, D] of the same images; "" is the image itself.
            For a mean, copies may be missing.
        test_time: which copies there should be, and how they are joined.

    Returns:
        Embeddings of unit length, [N, D], or [N, sizes * D] if they are concatenated.

    Raises:
        TimeoutError: sizes are concatenated, and one is missing.
    """
    names = ["", *copy_names(test_time)]
    found = {name: features[name] for name in names if name in features}
    if test_time.join == "mean":
        return average_copies(list(found.values()))
    parts = []
    for scale in (1.0, *_other_scales(test_time)):
        of_size = [one for name, one in found.items() if split_name(name)[0] == scale]
        if not of_size:
            raise TimeoutError(
                f"no time left to embed the images at {scale:g} times their size, and embeddings "
                "of all sizes are concatenated: allow more time, or average them."
            )
        parts.append(average_copies(of_size))
    failed = np.any([part.failed for part in parts], axis=0)
    embeddings = np.concatenate([part.embeddings for part in parts], axis=1)
    embeddings = directions(np.where(failed[:, None], 0, embeddings).astype(np.float64))
    return GlobalFeatures(parts[0].ids, embeddings, parts[0].digest, failed)
