"""Decode images in threads, ahead of the network that embeds them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import numpy as np

from data_io.cores import num_cores
from data_io.images import ImageError, load_image
from data_io.records import ImageList

NUM_THREADS = num_cores()


def decoded_batches(
    images: ImageList, size_px: int, batch_size: int
) -> Iterator[list[np.ndarray | str]]:
    """Decode images in batches, one batch ahead of the consumer.

    Args:
        images: the list.
        size_px: side of the decoded images.
        batch_size: images in a batch; the last batch may have fewer.

    Yields:
        For each image of a batch its pixels, uint8 [size_px, size_px, 3], or the reason why it
        cannot be read.
    """
    decoded = decoded_ahead(partial(load_image, size_px=size_px), images, batch_size)
    while batch := list(islice(decoded, batch_size)):
        yield batch


def decoded_ahead(
    load: Callable[[str], np.ndarray], images: ImageList, num_ahead: int
) -> Iterator[np.ndarray | str]:
    """Load images in threads, some of them ahead of the consumer.

    A consumer that stops early waits only for the images that are being loaded.

    Args:
        load: returns the pixels of a file, uint8 [H, W, 3].
        images: the list.
        num_ahead: number of images ahead.

    Yields:
        For each image its pixels, or the reason why it cannot be read.
    """
    pool = ThreadPoolExecutor(NUM_THREADS)
    try:
        futures = (pool.submit(_load_or_reason, load, path) for path in images.paths.tolist())
        pending = deque(islice(futures, num_ahead))
        while pending:
            first = pending.popleft()
            pending += islice(futures, 1)
            yield first.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _load_or_reason(load: Callable[[str], np.ndarray], path: str) -> np.ndarray | str:
    try:
        return load(path)
    except ImageError as error:
        return error.reason
