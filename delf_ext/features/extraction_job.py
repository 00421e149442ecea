"""Embed a list of images as a job that can be killed, resumed and split into shards.

The result has the same bytes in all these cases, and valid work is never repeated.

The last bits of an embedding depend on the shape of the batch and on the image's place in it (seen
with a ResNet-50 at 224 px in TensorFlow; the other images in the batch have no influence). So an
image always has the place that follows from its row in the list: row r has place r % batch_size in
a batch of fixed shape, and a part holds whole batches. Missing images of several parts share
batches, each image at its own place. The last bits can change only with another batch size, another
machine, or when files are added or removed in front of an image in the list.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np

from data_io.files.contents import contents_of
from data_io.messages import shown_path
from data_io.progress import progress
from data_io.records import GlobalFeatures, ImageList
from data_io.stores.embedding_parts import FeaturePart, FeatureParts, made_by
from delf_ext.features.decoding import decoded_batches
from delf_ext.features.embedder import EmbedsImages
from delf_ext.features.extraction import embed_readable, joined_features

# Images in a part, rounded up to whole batches. A killed process loses at most one part.
PART_IMAGES = 256
CHANGED = "changed while it was read"

Items = dict[int, np.ndarray | str]
"""Row of the list -> embedding [D] or pixels [S, S, 3], or the reason why there is none."""


def extract_in_parts(
    model: EmbedsImages,
    images: ImageList,
    folder: str | Path,
    batch_size: int,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
) -> tuple[GlobalFeatures, ImageList] | None:
    """Embed one shard of a list, and join all parts if no other shard is missing.

    An image is known by the content of its file. It is not embedded again if its part, or a part of
    an earlier list, has an embedding of the same content by the same model. Unreadable files are
    tried again at each call.

    Args:
        model: embeds the images.
        images: N images; the same list in each shard.
        folder: where the parts are written.
        batch_size: images per call of the model.
        shard: (i, n): shard i of n, counted from 1, has every n-th part.
        overwrite: delete parts that another model or version of decoding made.

    Returns:
        The same as `extract_global`; None while parts of other shards are missing.

    Raises:
        StaleArtifact: another model made the parts, and `overwrite` is not set.
        ValueError: another process extracts this shard, or no image is readable, or `batch_size`
            is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received {batch_size}.")
    part_images = math.ceil(PART_IMAGES / batch_size) * batch_size
    parts = FeatureParts(folder, made_by(model.digest), images.ids, part_images, overwrite)
    index, count = shard
    own_parts = range(index - 1, parts.num_parts, count)
    with parts.locked(index, count):
        contents = _contents(images, _rows(parts, own_parts))
        _complete(model, images, contents, parts, own_parts, batch_size)
    return _join(model, images, contents, parts)


def _rows(parts: FeatureParts, numbers: Iterable[int]) -> list[int]:
    return [row for part in numbers for row in parts.rows(part)]


def _contents(images: ImageList, rows: list[int]) -> dict[int, str]:
    """Return row -> digest of the image's file."""
    return dict(zip(rows, contents_of(images.paths[rows].tolist()), strict=True))


def _complete(
    model: EmbedsImages,
    images: ImageList,
    contents: dict[int, str],
    parts: FeatureParts,
    own_parts: range,
    batch_size: int,
) -> None:
    """Embed the missing images, and write each part that is missing or out of date."""
    groups, items = _plan(contents, parts, own_parts)
    batches_of_groups = [
        _pack([row for row in _rows(parts, group) if row not in items], batch_size)
        for group in groups
    ]
    todo = list(chain.from_iterable(chain.from_iterable(batches_of_groups)))
    if len(todo) < len(contents):
        num_embedded = len(contents) - len(todo)
        folder = shown_path(parts.folder)
        print(f"{folder}: {num_embedded} of {len(contents)} images are already embedded")
    decoded = chain.from_iterable(decoded_batches(images.take(todo), model.image_size, batch_size))
    with progress(len(todo), "embedding") as bar:
        for group, batches in zip(groups, batches_of_groups, strict=True):
            for rows in batches:
                items |= _embed_batch(model, dict(zip(rows, decoded)), contents, batch_size)
                bar.update(len(rows))
            for part in group:
                part_rows = parts.rows(part)
                part_contents = np.array([contents[row] for row in part_rows])
                part_items = [items.pop(row) for row in part_rows]
                parts.save(part, FeaturePart.of(part_contents, part_items))


def _plan(
    contents: dict[int, str], parts: FeatureParts, own_parts: range
) -> tuple[list[list[int]], Items]:
    """Choose the parts to write.

    Returns:
        Groups of parts that miss about as many images as a part holds, and the embeddings that
        are already known.
    """
    earlier = {
        content: vector
        for path in parts.earlier()
        for content, vector in _stored(parts, path)
        if vector is not None
    }
    groups: list[list[int]] = []
    known: Items = {}
    num_missing = parts.part_images
    for part in own_parts:
        rows = parts.rows(part)
        unchanged = {
            row: vector
            for row, (content, vector) in zip(rows, _stored(parts, parts.path(part)))
            if content == contents[row] and vector is not None
        }
        if len(unchanged) == len(rows):
            continue
        moved = {row: earlier[contents[row]] for row in rows if contents[row] in earlier}
        reused = moved | unchanged
        known |= reused
        if num_missing >= parts.part_images:
            groups.append([])
            num_missing = 0
        groups[-1].append(part)
        num_missing += len(rows) - len(reused)
    return groups, known


def _stored(parts: FeatureParts, path: Path) -> list[tuple[str, np.ndarray | None]]:
    """Return content and embedding of each image of a part; an empty list if it is missing."""
    part = _read(parts, path)
    if part is None:
        return []
    return list(zip(part.contents.tolist(), part.per_image(), strict=True))


def _read(parts: FeatureParts, path: Path) -> FeaturePart | None:
    try:
        return parts.read(path)
    except ValueError as error:
        print(f"{error}; its images are embedded again")
        return None


def _pack(rows: list[int], batch_size: int) -> list[list[int]]:
    """Return the fewest batches in which each row has its place, row % batch_size.

    Rows that follow each other stay together.
    """
    num_at_place: Counter[int] = Counter()
    batches: list[list[int]] = []
    for row in rows:
        place = row % batch_size
        if num_at_place[place] == len(batches):
            batches.append([])
        batches[num_at_place[place]].append(row)
        num_at_place[place] += 1
    return batches


def _embed_batch(
    model: EmbedsImages, decoded: Items, contents: dict[int, str], batch_size: int
) -> Items:
    """Embed decoded images, each at its own place; the other places are black.

    Args:
        model: embeds the images.
        decoded: row -> pixels, or the reason why there are none.
        contents: row -> digest of the file before it was decoded; "" if it could not be read.
        batch_size: images per call of the model.

    Returns:
        Row -> embedding, or the reason why there is none.
    """
    items = {
        row: item if contents[row] or isinstance(item, str) else CHANGED
        for row, item in decoded.items()
    }
    readable = [row for row, item in items.items() if not isinstance(item, str)]
    if not readable:
        return items
    batch = np.zeros((batch_size, model.image_size, model.image_size, 3), np.uint8)
    for row in readable:
        batch[row % batch_size] = items[row]
    vectors = embed_readable(model, list(batch), batch_size)
    return items | {row: vectors[row % batch_size] for row in readable}


def _join(
    model: EmbedsImages, images: ImageList, contents: dict[int, str], parts: FeatureParts
) -> tuple[GlobalFeatures, ImageList] | None:
    """Return all parts as one record with its list; None if a part is missing or out of date."""
    num_missing = sum(not parts.path(part).exists() for part in range(parts.num_parts))
    stored: list[FeaturePart] = []
    if not num_missing:
        contents |= _contents(images, [row for row in range(len(images)) if row not in contents])
        stored = _up_to_date(contents, parts)
        num_missing = parts.num_parts - len(stored)
    if num_missing:
        print(
            f"{shown_path(parts.folder)}: {num_missing} of {parts.num_parts} parts are still "
            "missing; the shard that ends last joins them"
        )
        return None
    reasons = [str(reason) for part in stored for reason in part.reasons]
    embedded = [part.embeddings for part in stored if len(part.embeddings)]
    embeddings = np.concatenate(embedded) if embedded else np.zeros((0, 0), np.float32)
    joined = joined_features(model.digest, images, reasons, embeddings)
    parts.drop_earlier()
    return joined


def _up_to_date(contents: dict[int, str], parts: FeatureParts) -> list[FeaturePart]:
    """Return the parts that have the present content of their images."""
    stored = []
    for number in range(parts.num_parts):
        part = _read(parts, parts.path(number))
        present = [contents[row] for row in parts.rows(number)]
        if part is not None and part.contents.tolist() == present:
            stored.append(part)
    return stored
