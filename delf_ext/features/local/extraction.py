"""A list of images to a store of local features: resumable, safe against being killed; unreadable files are skipped and named."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from data_io.images import ImageError, decode_image
from data_io.progress import progress
from data_io.records import ImageKeypoints, ImageList, LocalFeatures
from data_io.stores.local_features import LocalStoreWriter, load_local

BATCH_IMAGES = 8
WAITING_IMAGES = 32  # decoded photographs of other shapes that wait for company


class LocalExtractor(Protocol):
    """What extraction asks: `features.delf.DelfExtractor`, `features.sift.SiftExtractor`, or your own."""

    @property
    def digest(self) -> str: ...
    @property
    def dimension(self) -> int: ...
    @property
    def made_by(self) -> dict: ...
    def shape_class(self, size_px: tuple[int, int]) -> Hashable: ...
    def extract(self, images: Sequence[np.ndarray]) -> list[ImageKeypoints]: ...


def extract_local(
    extractor: LocalExtractor,
    images: ImageList,
    folder: str | Path,
    dtype: str = "float16",
    overwrite: bool = False,
    description: str = "",
    fits: Callable[[], bool] = lambda: True,
) -> LocalFeatures:
    """The store in `folder`, after adding every image that is not in it yet. Killed and called again, it goes on.

    Features do not depend on where it was killed, but for the last bits of a network's output: they can differ with the batch in
    which an image is run.

    fits: asked before each batch.
    Raises: StaleArtifact when the store was made by another extractor; ValueError when an image was stored from another file;
    TimeoutError after the first False of `fits`: what is extracted by then is kept.
    """
    with LocalStoreWriter(
        folder, extractor.dimension, extractor.digest, extractor.made_by, dtype, overwrite
    ) as store:
        if store.recovered:
            print(f"{folder}: {store.recovered} half-written images are extracted again")
        absolute = np.array([os.path.abspath(path) for path in images.paths], str)
        images = dataclasses.replace(images, paths=absolute)  # the same file however it is spelled
        moved = [
            str(name)
            for name, path in zip(images.ids, images.paths)
            if store.changed(str(name), path)
        ]
        if moved:
            raise ValueError(
                f"{folder}: {moved[0]} was extracted from {store.done[moved[0]]}, moved or replaced since. Pass --overwrite."
            )
        missing = images.take(np.array([str(name) not in store.done for name in images.ids], bool))
        with progress(len(missing), description) as bar:
            for batch in _batches(extractor, missing, store):
                _require_time(fits)
                for (name, path, _), features in zip(
                    batch, extractor.extract([pixels for _, _, pixels in batch]), strict=True
                ):
                    store.add(name, path, features)
                    bar.update()
            bar.update(bar.total - bar.n)
    return load_local(folder, extractor.digest)


def sample_descriptors(
    extractor: LocalExtractor,
    images: ImageList,
    num_images: int,
    per_image: int,
    seed: int,
    fits: Callable[[], bool] = lambda: True,
) -> np.ndarray:
    """[T, d] of the strongest features of random images: what a whitening is learned on. Unreadable images are passed over.

    Raises: TimeoutError after the first False of `fits`, which is asked before each batch.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:num_images])
    found: list[np.ndarray] = []
    with progress(len(rows), "whitening") as bar:
        for batch in _batches(extractor, images.take(rows), None):
            _require_time(fits)
            found += [
                features.descriptors[:per_image]
                for features in extractor.extract([pixels for _, _, pixels in batch])
            ]
            bar.update(len(batch))
    return np.concatenate(found) if found else np.zeros((0, extractor.dimension), np.float32)


def _require_time(fits: Callable[[], bool]) -> None:
    if not fits():
        raise TimeoutError("no time left to extract local features.")


Decoded = tuple[str, str, np.ndarray]  # id, path, pixels


def _batches(
    extractor: LocalExtractor, images: ImageList, store: LocalStoreWriter | None
) -> Iterator[list[Decoded]]:
    """Photographs of one shape class together; what cannot be read is noted in the store."""
    waiting: dict[Hashable, list[Decoded]] = {}
    for name, path, pixels in _decoded(images):
        if isinstance(pixels, str):
            if store is not None:
                store.skip(name, path, pixels)
            continue
        shape = extractor.shape_class((pixels.shape[1], pixels.shape[0]))
        waiting.setdefault(shape, []).append((name, path, pixels))
        if len(waiting[shape]) == BATCH_IMAGES:
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) >= WAITING_IMAGES:
            yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
    yield from waiting.values()


def _decoded(
    images: ImageList, num_threads: int = 2
) -> Iterator[tuple[str, str, np.ndarray | str]]:
    """(id, path, pixels, or why there are none) in the list's order, a few images ahead."""
    rows = list(zip(images.ids.tolist(), images.paths.tolist(), strict=True))
    with ThreadPoolExecutor(num_threads) as threads:
        ahead = iter(rows)
        pending = [
            (row, threads.submit(_pixels_or_reason, row[1])) for row in islice(ahead, BATCH_IMAGES)
        ]
        while pending:
            (name, path), future = pending.pop(0)
            pending += [
                (row, threads.submit(_pixels_or_reason, row[1])) for row in islice(ahead, 1)
            ]
            yield name, path, future.result()


def _pixels_or_reason(path: str) -> np.ndarray | str:
    try:
        return decode_image(path)
    except ImageError as error:
        return error.reason
