"""A list of images to one record of embeddings; unreadable files are skipped, counted and named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from data_io.images import ImageError
from data_io.progress import progress
from data_io.records import GlobalFeatures, ImageList
from data_io.stores.embedding_parts import contents_of
from data_io.stores.embeddings import EmbeddingStore
from data_io.stores.pixels import image_loader
from delf_ext.features.embedder import EmbedsImages, Ensemble

BATCH_SIZE = 32
NO_TIME_LEFT = "no time left"
STORED_TOGETHER = 256  # images whose embeddings a kill can cost


def _load_or_reason(load: Callable[[str], np.ndarray], path: str) -> np.ndarray | str:
    try:
        return load(path)
    except ImageError as error:
        return error.reason


def decoded_batches(
    images: ImageList,
    size_px: int,
    batch_size: int,
    num_threads: int = os.cpu_count() or 2,
    pixel_cache: str | Path | None = None,
) -> Iterator[list[np.ndarray | str]]:
    """Per batch and image its pixels, uint8 [size_px, size_px, 3], or why there are none. Decodes one batch ahead.

    pixel_cache: folder that keeps the pixels for the next time. Who stops early does not wait for the batch ahead.
    """
    load = image_loader(size_px, pixel_cache)
    pool = ThreadPoolExecutor(num_threads)

    def submit(start: int) -> list[Future]:
        return [
            pool.submit(_load_or_reason, load, str(path))
            for path in images.paths[start : start + batch_size]
        ]

    try:
        pending = submit(0)
        for start in range(0, len(images), batch_size):
            current, pending = pending, submit(start + batch_size)
            yield [future.result() for future in current]
    finally:
        pool.shutdown(cancel_futures=True)


def extract_global(
    model: EmbedsImages | Ensemble,
    images: ImageList,
    batch_size: int = BATCH_SIZE,
    description: str = "embedding",
    fits: Callable[[], bool] = lambda: True,
) -> tuple[GlobalFeatures, ImageList]:
    """Embed the images of a list; what the model's store holds is taken from there, and the rest is added to it.

    Args:
        model: an embedder, an ensemble of embedders, or your own.
        images: the photographs, N of them.
        batch_size: images per call of the model.
        description: shown beside the progress bar.
        fits: asked before each batch; after the first False all others are skipped.

    Returns:
        The embeddings in list order, and the list of the images that have one; its `skipped` names the others.

    Raises:
        ValueError: when no image at all is readable.
        TimeoutError: when no batch fits.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1. Received {batch_size}.")
    if isinstance(model, Ensemble):
        return _extract_ensemble(model, images, batch_size, description, fits)
    store: EmbeddingStore | None = getattr(model, "store", None)
    contents: list[str] = []
    known: dict[int, np.ndarray] = {}
    if store is not None:
        contents = contents_of(images.paths.tolist())
        stored = [store.get(content) for content in contents]
        known = {row: vector for row, vector in enumerate(stored) if vector is not None}
        if known:
            store.log(f"{description}: {len(known)} of {len(images)} are stored in {store.folder}")
    missing = np.array([row not in known for row in range(len(images))], bool)
    own_contents = [contents[row] for row in np.flatnonzero(missing)] if store is not None else []
    found = iter(
        _embedded(model, images.take(missing), batch_size, description, fits, store, own_contents)
    )
    items = [known[row] if row in known else next(found) for row in range(len(images))]
    return _kept(model.digest, images, items)


def _embedded(
    model: EmbedsImages,
    images: ImageList,
    batch_size: int,
    description: str,
    fits: Callable[[], bool],
    store: EmbeddingStore | None,
    contents: list[str],
) -> list[np.ndarray | str]:
    """Return per image its embedding, or why there is none; adds them to the store as it goes."""
    items: list[np.ndarray | str] = []
    stored = 0

    def save() -> None:
        if store is not None:
            rows = [
                row
                for row in range(stored, len(items))
                if not isinstance(items[row], str) and contents[row]
            ]
            vectors = [items[row] for row in rows]
            store.add([contents[row] for row in rows], np.array(vectors, np.float32))

    with progress(len(images), description) as bar:
        for batch in decoded_batches(images, model.image_size, batch_size):
            if not fits():
                break
            items += embed_readable(model, batch, batch_size)
            bar.update(len(batch))
            if len(items) - stored >= STORED_TOGETHER:
                save()
                stored = len(items)
    save()
    return items + [NO_TIME_LEFT] * (len(images) - len(items))


def _kept(
    digest: str, images: ImageList, items: list[np.ndarray | str]
) -> tuple[GlobalFeatures, ImageList]:
    reasons = [item if isinstance(item, str) else "" for item in items]
    embeddings = [item for item in items if not isinstance(item, str)]
    if reasons and not embeddings and reasons[0] == NO_TIME_LEFT:
        raise TimeoutError(
            f"no time left to embed the first of {len(images)} images: the time budget is too short."
        )
    bad = [
        (str(path), reason) for path, reason in zip(images.paths, reasons, strict=True) if reason
    ]
    kept = images.take(
        np.array([not reason for reason in reasons], bool), skipped=(*images.skipped, *bad)
    )
    if not len(kept):
        raise ValueError(
            f"none of {len(images)} images could be read; the first: {': '.join(bad[0]) if bad else 'the list is empty'}."
        )
    return GlobalFeatures(kept.ids, np.stack(embeddings), digest), kept


def _extract_ensemble(
    model: Ensemble, images: ImageList, batch_size: int, description: str, fits: Callable[[], bool]
) -> tuple[GlobalFeatures, ImageList]:
    """Embed with each member; an image that one of them could not embed is left out."""
    features, kept = [], images
    for member in model.members:
        found, kept = extract_global(
            member, kept, batch_size, f"{description}, {member.name}", fits
        )
        features.append(found)
    rows = [np.flatnonzero(np.isin(found.ids, kept.ids)) for found in features]
    joined = model.joined(
        [found.embeddings[own] for found, own in zip(features, rows, strict=True)]
    )
    return GlobalFeatures(kept.ids, joined.astype(np.float32), model.digest), kept


def embed_readable(
    model: EmbedsImages, batch: list[np.ndarray | str], batch_size: int
) -> list[np.ndarray | str]:
    """Embeds the readable images of a batch at a fixed batch shape: a second shape would be traced and tuned anew."""
    readable = [item for item in batch if not isinstance(item, str)]
    if not readable:
        return batch
    blank = [np.zeros_like(readable[0])] * (batch_size - len(readable))
    vectors = iter(np.asarray(model.embed(np.stack(readable + blank)), np.float32))
    return [item if isinstance(item, str) else _unit_or_reason(next(vectors)) for item in batch]


def _unit_or_reason(vector: np.ndarray) -> np.ndarray | str:
    length = np.linalg.norm(vector)
    return (
        vector / length
        if np.isfinite(length) and length > 0
        else "the model's embedding is zero or not a number"
    )
