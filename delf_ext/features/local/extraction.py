"""Extract local features of a list of images into a store that survives a kill.

Extraction can be resumed. Unreadable images are skipped and listed.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from data_io.images import decode_image
from data_io.progress import progress
from data_io.records import ImageKeypoints, ImageList, LocalFeatures
from data_io.stores.local_features import LocalStoreWriter, load_local
from delf_ext.features.decoding import decoded_ahead
from delf_ext.features.extraction import always_has_time

BATCH_IMAGES = 8
# Decoded images that may wait for others of the same shape class.
WAITING_IMAGES = 32


Skip = Callable[[str, str, str], None]
"""Function of id, path and reason that notes an unreadable image."""


class LocalExtractor(Protocol):
    """Interface of an extractor: DelfExtractor, SiftExtractor or a class of the user."""

    @property
    def digest(self) -> str:
        """String that changes if the features can change."""

    @property
    def dimension(self) -> int:
        """Length of a descriptor."""

    @property
    def made_by(self) -> dict:
        """Everything that the result depends on, as plain JSON data."""

    def shape_class(self, size_px: tuple[int, int]) -> Hashable:
        """Return a value that is equal for sizes (width, height) that can share a batch."""

    def extract(self, images: Sequence[np.ndarray]) -> list[ImageKeypoints]:
        """Extract the features of images, uint8 [H, W, 3] each, of one shape class."""


class _Decoded(NamedTuple):
    """Image of a list, with its pixels, uint8 [H, W, 3]."""

    image_id: str
    path: str
    pixels: np.ndarray


def extract_local(
    extractor: LocalExtractor,
    images: ImageList,
    folder: str | Path,
    dtype: str = "float16",
    overwrite: bool = False,
    description: str = "",
    has_time: Callable[[], bool] = always_has_time,
) -> LocalFeatures:
    """Add the features of each missing image to a store, and open the store.

    A killed extraction is resumed by the same call. The features are the same, except for the last
    bits of a network's output, which can depend on the other images of a batch.

    Args:
        extractor: extracts the features.
        images: the list.
        folder: folder of the store.
        dtype: type of the stored descriptors, "float16" or "int8".
        overwrite: replace a store that was made by another extractor or from other files.
        description: shown beside the progress bar.
        has_time: called before each batch; the first False stops the extraction.

    Returns:
        The features of the store.

    Raises:
        StaleArtifact: another extractor made the store.
        ValueError: an image was stored from another file.
        TimeoutError: `has_time` returned False; the features so far are stored.
    """
    with LocalStoreWriter(
        folder, extractor.dimension, extractor.digest, extractor.made_by, dtype, overwrite
    ) as store:
        if store.recovered:
            print(f"{folder}: {store.recovered} half-written images are extracted again")
        # The same file has the same path, however the user wrote it.
        absolute = np.array([os.path.abspath(path) for path in images.paths], str)
        images = dataclasses.replace(images, paths=absolute)
        for name, path in zip(images.ids.tolist(), images.paths.tolist()):
            if store.changed(name, path):
                raise ValueError(
                    f"{folder}: {name} was extracted from {store.done[name]['path']}, which was "
                    "moved or replaced since. Pass --overwrite."
                )
        missing = images.take(
            np.array([name not in store.done for name in images.ids.tolist()], bool)
        )
        with progress(len(missing), description) as bar:
            for image, features in _extracted(extractor, missing, has_time, store.skip):
                store.add(image.image_id, image.path, features)
                bar.update()
            # Skipped images count as well.
            bar.update(bar.total - bar.n)
    return load_local(folder, extractor.digest)


def sample_descriptors(
    extractor: LocalExtractor,
    images: ImageList,
    num_images: int,
    per_image: int,
    seed: int,
    has_time: Callable[[], bool] = always_has_time,
    skipped: list[tuple[str, str]] | None = None,
) -> np.ndarray:
    """Extract the strongest descriptors of random images, to learn a whitening from.

    Args:
        extractor: extracts the features.
        images: the list; unreadable images are left out.
        num_images: number of images to choose.
        per_image: most descriptors of an image.
        seed: seed of the random choice.
        has_time: called before each batch; the first False stops the extraction.
        skipped: (path, reason) of each unreadable image is added to this list.

    Returns:
        float32 [T, d].

    Raises:
        TimeoutError: `has_time` returned False.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:num_images])
    sample: list[np.ndarray] = []

    def skip(image_id: str, path: str, reason: str) -> None:
        if skipped is not None:
            skipped.append((path, reason))

    with progress(len(rows), "whitening") as bar:
        for _, features in _extracted(extractor, images.take(rows), has_time, skip):
            sample.append(features.descriptors[:per_image])
            bar.update()
    return np.concatenate(sample) if sample else np.zeros((0, extractor.dimension), np.float32)


def _extracted(
    extractor: LocalExtractor,
    images: ImageList,
    has_time: Callable[[], bool],
    skip: Skip,
) -> Iterator[tuple[_Decoded, ImageKeypoints]]:
    """Extract batch by batch; raise TimeoutError if a batch does not fit."""
    for batch in _batches(extractor, images, skip):
        if not has_time():
            raise TimeoutError("no time left to extract local features.")
        yield from zip(batch, extractor.extract([image.pixels for image in batch]), strict=True)


def _batches(extractor: LocalExtractor, images: ImageList, skip: Skip) -> Iterator[list[_Decoded]]:
    """Group decoded images by shape class; call `skip` for each unreadable one.

    Yields:
        At most BATCH_IMAGES images of one shape class.
    """
    waiting: dict[Hashable, list[_Decoded]] = {}
    decoded = decoded_ahead(decode_image, images, BATCH_IMAGES)
    for image_id, path, item in zip(images.ids.tolist(), images.paths.tolist(), decoded):
        if isinstance(item, str):
            skip(image_id, path, item)
            continue
        height, width = item.shape[:2]
        shape = extractor.shape_class((width, height))
        waiting.setdefault(shape, []).append(_Decoded(image_id, path, item))
        if len(waiting[shape]) == BATCH_IMAGES:
            yield waiting.pop(shape)
        elif sum(map(len, waiting.values())) >= WAITING_IMAGES:
            yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
    yield from waiting.values()
