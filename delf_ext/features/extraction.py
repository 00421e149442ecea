"""A list of images to one record of embeddings; unreadable files are skipped, counted and named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np

from data_io.images import ImageError
from data_io.pixel_cache import image_loader
from data_io.progress import progress
from data_io.records import GlobalFeatures, ImageList

NO_TIME_LEFT = "no time left"


class Embeds(Protocol):
    """What extraction asks of a model: `features.embedders.Embedder`, the Keras baseline's, or your own."""

    @property
    def image_size(self) -> int: ...
    @property
    def digest(self) -> str: ...
    @property
    def embed(self) -> Callable[[np.ndarray], np.ndarray]: ...


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
        return [pool.submit(_load_or_reason, load, str(path)) for path in images.paths[start : start + batch_size]]

    try:
        pending = submit(0)
        for start in range(0, len(images), batch_size):
            current, pending = pending, submit(start + batch_size)
            yield [future.result() for future in current]
    finally:
        pool.shutdown(cancel_futures=True)


def extract_global(
    model: Embeds,
    images: ImageList,
    batch_size: int = 32,
    description: str = "embedding",
    fits: Callable[[], bool] = lambda: True,
) -> tuple[GlobalFeatures, ImageList]:
    """Embeddings in list order, and the list of the images that have one; its `skipped` names the others.

    fits: asked before each batch; after the first False all others are skipped.
    Raises: ValueError when no image at all is readable, TimeoutError when no batch fits.
    """
    embeddings: list[np.ndarray] = []
    reasons: list[str] = []
    with progress(len(images), description) as bar:
        for batch in decoded_batches(images, model.image_size, batch_size):
            if not fits():
                reasons += [NO_TIME_LEFT] * (len(images) - len(reasons))
                break
            found = embed_readable(model, batch, batch_size)
            reasons += [item if isinstance(item, str) else "" for item in found]
            embeddings += [item for item in found if not isinstance(item, str)]
            bar.update(len(batch))
    if reasons and not embeddings and reasons[0] == NO_TIME_LEFT:
        raise TimeoutError(f"no time left to embed the first of {len(images)} images: the time budget is too short.")
    bad = [(str(path), reason) for path, reason in zip(images.paths, reasons, strict=True) if reason]
    kept = images.take(np.array([not reason for reason in reasons], bool), skipped=(*images.skipped, *bad))
    if not len(kept):
        raise ValueError(
            f"none of {len(images)} images could be read; the first: {': '.join(bad[0]) if bad else 'the list is empty'}."
        )
    return GlobalFeatures(kept.ids, np.stack(embeddings), model.digest), kept


def embed_readable(model: Embeds, batch: list[np.ndarray | str], batch_size: int) -> list[np.ndarray | str]:
    """Embeds the readable images of a batch at a fixed batch shape: a second shape would be traced and tuned anew."""
    readable = [item for item in batch if not isinstance(item, str)]
    if not readable:
        return batch
    blank = [np.zeros_like(readable[0])] * (batch_size - len(readable))
    vectors = iter(np.asarray(model.embed(np.stack(readable + blank)), np.float32))
    return [item if isinstance(item, str) else _unit_or_reason(next(vectors)) for item in batch]


def _unit_or_reason(vector: np.ndarray) -> np.ndarray | str:
    length = np.linalg.norm(vector)
    return vector / length if np.isfinite(length) and length > 0 else "the model's embedding is zero or not a number"
