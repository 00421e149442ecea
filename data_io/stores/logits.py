"""Let one pass through a network fill two stores: of its embeddings and of its class logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_io.stores.embeddings import EmbeddingStore

LOGITS = "logits"
"""Name of the store of logits beside the store of embeddings; see `EmbeddingStore.of_copy`."""


class LogitStore:
    """The embeddings and the logits of one network, read and filled together."""

    def __init__(
        self, embeddings: EmbeddingStore, num_logits: int, logits: EmbeddingStore | None = None
    ) -> None:
        """Keep the stores.

        Args:
            embeddings: of the network.
            num_logits: number C of classes.
            logits: of the same network; None = the store beside `embeddings`.
        """
        self.embeddings = embeddings
        self.logits = embeddings.of_copy(LOGITS) if logits is None else logits
        self.num_logits = num_logits
        self.folder = embeddings.folder
        self.log = embeddings.log

    def of_copy(self, name: str) -> LogitStore:
        """Return the stores of a transformed copy of each image; see `EmbeddingStore.of_copy`."""
        return LogitStore(self.embeddings.of_copy(name), self.num_logits, self.logits.of_copy(name))

    def get(self, content: str) -> np.ndarray | None:
        """Return embedding and logits of an image.

        Args:
            content: the digest of the image's file.

        Returns:
            float32 [D + C], or None if one store does not have the image.
        """
        embedding = self.embeddings.get(content)
        logits = self.logits.get(content)
        if embedding is None or logits is None or len(logits) != self.num_logits:
            return None
        return np.concatenate([embedding, logits])

    def add(self, contents: Sequence[str], rows: np.ndarray) -> None:
        """Add embeddings and logits to their stores.

        Args:
            contents: the digests of n image files.
            rows: float32 [n, D + C].
        """
        if not contents:
            return
        self.embeddings.add(contents, rows[:, : -self.num_logits])
        self.logits.add(contents, rows[:, -self.num_logits :])
