"""Extraction as a job: killed, resumed or cut into shards, it ends with the same bytes; what is done and valid is not done again.

Equal bytes need care, because an embedding's last bits depend on the batch's shape and on the image's place in it (seen: a
ResNet-50 at 224 px in TensorFlow; what lies in the other places has no influence). So an image is always embedded at the place
that its row has in the list: row r at place r % batch_size of a batch of fixed shape, and parts hold whole batches. What is
missing here and there is packed together, each image at its own place. Only another batch size or machine, or files added or
removed in front of an image that is embedded already, can change its last bits.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np

from data_io.progress import progress
from data_io.records import GlobalFeatures, ImageList
from data_io.stores.embedding_parts import FeaturePart, FeatureParts, contents_of, made_by
from delf_ext.features.embedder import EmbedsImages
from delf_ext.features.extraction import decoded_batches, embed_readable

PART_IMAGES = 256  # what a kill can cost
CHANGED = "changed while it was read"

Found = dict[int, np.ndarray | str]  # row -> its embedding, or why there is none


def extract_in_parts(
    model: EmbedsImages,
    images: ImageList,
    folder: str | Path,
    batch_size: int,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
) -> tuple[GlobalFeatures, ImageList] | None:
    """What `extract_global` returns, joined from the parts in `folder`; None while parts of other shards are missing.

    shard: (i, n), the i-th of n, from 1: every n-th part. Files are read once to know them by content: an image is done when its
    part, or one of an earlier list, holds its content's embedding by this model. What cannot be read is tried at each call.
    overwrite: parts that another model or way of decoding made are dropped.
    Raises: StaleArtifact for such parts without overwrite; ValueError when another process has the shard, or no image at all is
    readable.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received {batch_size}.")
    parts = FeatureParts(
        folder, made_by(model.digest), images.ids, math.ceil(PART_IMAGES / batch_size) * batch_size, overwrite
    )
    index, count = shard
    own = range(index - 1, parts.num_parts, count)
    with parts.locked(index, count):
        contents = _contents(images, _rows(parts, own))
        _complete(model, images, contents, parts, own, batch_size)
    return _joined(model, images, contents, parts)


def _rows(parts: FeatureParts, which: Iterable[int]) -> list[int]:
    return [row for part in which for row in parts.rows(part)]


def _contents(images: ImageList, rows: list[int]) -> dict[int, str]:
    """row -> digest of its file."""
    return dict(zip(rows, contents_of(images.paths[rows].tolist()), strict=True))


def _complete(
    model: EmbedsImages,
    images: ImageList,
    contents: dict[int, str],
    parts: FeatureParts,
    own: range,
    batch_size: int,
) -> None:
    """Embeds what is missing, and writes every part of this shard that is not there or not up to date."""
    groups, found = _plan(contents, parts, own)
    batches = [
        _packed([row for row in _rows(parts, group) if row not in found], batch_size)
        for group in groups
    ]
    todo = [row for of_group in batches for batch in of_group for row in batch]
    if len(todo) < len(contents):
        print(
            f"{parts.folder}: {len(contents) - len(todo)} of {len(contents)} images are embedded already"
        )
    decoded = chain.from_iterable(decoded_batches(images.take(todo), model.image_size, batch_size))
    with progress(len(todo), "embedding") as bar:
        for group, of_group in zip(groups, batches, strict=True):
            for rows in of_group:
                found |= _embedded(model, dict(zip(rows, decoded)), contents, batch_size)
                bar.update(len(rows))
            for part in group:
                own_rows = parts.rows(part)
                saved = FeaturePart.of(
                    np.array([contents[row] for row in own_rows]),
                    [found.pop(row) for row in own_rows],
                )
                parts.save(part, saved)


def _plan(
    contents: dict[int, str], parts: FeatureParts, own: range
) -> tuple[list[list[int]], Found]:
    """Parts to write, in groups that miss about as many images as a part has; and what they hold that is known already."""
    earlier = _earlier(parts)
    groups: list[list[int]] = []
    known: Found = {}
    num_missing = parts.part_images
    for part in own:
        rows, stored = parts.rows(part), _read(parts, parts.path(part))
        before = (
            {}
            if stored is None
            else dict(zip(rows, zip(stored.contents, stored.per_image()), strict=True))
        )
        unchanged = {
            row: vector
            for row, (content, vector) in before.items()
            if content == contents[row] and vector is not None
        }
        if len(unchanged) == len(rows):
            continue
        moved = {row: earlier[contents[row]] for row in rows if contents[row] in earlier}
        known |= moved | unchanged
        if num_missing >= parts.part_images:
            groups.append([])
            num_missing = 0
        groups[-1].append(part)
        num_missing += len(rows) - len(moved | unchanged)
    return groups, known


def _earlier(parts: FeatureParts) -> dict[str, np.ndarray]:
    """Content -> embedding, of the parts of other lists."""
    read = (part for part in (_read(parts, path) for path in parts.earlier()) if part is not None)
    pairs = (
        pair for part in read for pair in zip(part.contents.tolist(), part.per_image(), strict=True)
    )
    return {content: vector for content, vector in pairs if vector is not None}


def _read(parts: FeatureParts, path: Path) -> FeaturePart | None:
    try:
        return parts.read(path)
    except ValueError as error:
        print(f"{error}; its images are embedded again")
        return None


def _packed(rows: list[int], batch_size: int) -> list[list[int]]:
    """The rows in as few batches as give each its own place, row % batch_size; rows that follow each other stay together."""
    taken: Counter[int] = Counter()
    batches: list[list[int]] = []
    for row in rows:
        place = row % batch_size
        if taken[place] == len(batches):
            batches.append([])
        batches[taken[place]].append(row)
        taken[place] += 1
    return batches


def _embedded(
    model: EmbedsImages, decoded: Found, contents: dict[int, str], batch_size: int
) -> Found:
    """Each image at its place; the others are black. decoded: row -> pixels, or why there are none."""
    items = {
        row: item if contents[row] or isinstance(item, str) else CHANGED
        for row, item in decoded.items()
    }
    readable = {row % batch_size: item for row, item in items.items() if not isinstance(item, str)}
    if not readable:
        return items
    blank = np.zeros_like(next(iter(readable.values())))
    vectors = embed_readable(
        model, [readable.get(place, blank) for place in range(batch_size)], batch_size
    )
    return {
        row: item if isinstance(item, str) else vectors[row % batch_size]
        for row, item in items.items()
    }


def _joined(
    model: EmbedsImages, images: ImageList, contents: dict[int, str], parts: FeatureParts
) -> tuple[GlobalFeatures, ImageList] | None:
    """All parts as one record, and the list of what is in it; None, and a line that says so, while some are missing or stale."""
    num_missing = sum(not parts.path(part).exists() for part in range(parts.num_parts))
    stored: list[FeaturePart] = []
    if not num_missing:
        contents |= _contents(images, [row for row in range(len(images)) if row not in contents])
        for part in range(parts.num_parts):
            content = _read(parts, parts.path(part))
            if content is not None and content.contents.tolist() == [
                contents[row] for row in parts.rows(part)
            ]:
                stored.append(content)
        num_missing = parts.num_parts - len(stored)
    if num_missing:
        print(
            f"{parts.folder}: {num_missing} of {parts.num_parts} parts are still to come; the shard that ends last joins them"
        )
        return None
    reasons = [str(reason) for content in stored for reason in content.reasons]
    bad = [
        (str(path), reason) for path, reason in zip(images.paths, reasons, strict=True) if reason
    ]
    if len(bad) == len(images):
        first = ": ".join(bad[0]) if bad else "the list is empty"
        raise ValueError(f"none of {len(images)} images could be read; the first: {first}.")
    kept = images.take(
        np.array([not reason for reason in reasons], bool), skipped=(*images.skipped, *bad)
    )
    embeddings = np.concatenate(
        [content.embeddings for content in stored if len(content.embeddings)]
    )
    embeddings.setflags(write=False)  # or the record would copy it
    parts.drop_earlier()
    return GlobalFeatures(kept.ids, embeddings, model.digest), kept
