"""Let one pass through a network fill several stores: of several poolings of one feature map.

The joined embedding of an image is its embeddings by the poolings, one after the other, divided by
the square root of their number, so that it has unit length too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from data_io.directions import directions
from data_io.stores.embeddings import EmbeddingStore


def split_embeddings(joined: np.ndarray, count: int) -> list[np.ndarray]:
    """Split joined embeddings into those of each pooling.

    Args:
        joined: float32 [N, count * D].
        count: number of poolings.

    Returns:
        For each pooling float32 [N, D], unit length; a part that is zero stays zero.
    """
    return [directions(part) for part in np.split(joined, count, axis=1)]


class JoinedStore:
    """Several stores that are read and filled together."""

    def __init__(self, stores: Sequence[EmbeddingStore]) -> None:
        """Keep the stores.

        Args:
            stores: of the poolings, in the order in which their embeddings are joined.
        """
        self.stores = stores
        self.folder = stores[0].folder
        self.log = stores[0].log

    def of_copy(self, name: str) -> JoinedStore:
        """Return the stores of a transformed copy of each image; see `EmbeddingStore.of_copy`."""
        return JoinedStore([store.of_copy(name) for store in self.stores])

    def get(self, content: str) -> np.ndarray | None:
        """Return the joined embedding of an image.

        Args:
            content: the digest of the image's file.

        Returns:
            float32 [count * D], unit length, or None if one store does not have the image.
        """
        parts = [store.get(content) for store in self.stores]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return (np.concatenate(known) / math.sqrt(len(known))).astype(np.float32)

    def add(self, contents: Sequence[str], embeddings: np.ndarray) -> None:
        """Add the embeddings of each pooling to its store.

        Args:
            contents: the digests of n image files.
            embeddings: float32 [n, count * D], joined.
        """
        if not contents:
            return
        for store, part in zip(self.stores, split_embeddings(embeddings, len(self.stores))):
            # An embedding of zero is not stored: it failed.
            rows = np.flatnonzero(part.any(axis=1))
            store.add([contents[row] for row in rows], part[rows])
