"""Define the embeddings of many images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_io.records.checked_arrays import (
    has_unit_length,
    readonly,
    readonly_texts,
    require_unique,
    set_fields,
    set_trusted_fields,
)


@dataclass(frozen=True, eq=False)
class GlobalFeatures:
    """One embedding per image.

    Attributes:
        ids: str [N], unique.
        embeddings: float32 [N, D], unit length; zero for an image that failed.
        digest: of the model that made the embeddings.
        failed: bool [N]; the model returned zero or numbers that are not finite. Such a query finds
            nothing, such a gallery image is ranked last. None means all False.
    """

    ids: np.ndarray
    embeddings: np.ndarray
    digest: str = ""
    failed: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        failed = np.zeros(len(self.ids), bool) if self.failed is None else self.failed
        set_fields(
            self,
            ids=readonly_texts(self.ids),
            embeddings=readonly(self.embeddings, np.float32),
            failed=readonly(failed, bool),
        )
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.ids):
            raise ValueError(
                f"embeddings must be [N, D] for {len(self.ids)} ids. "
                f"Received shape={self.embeddings.shape}."
            )
        require_unique(self.ids, "image ids")
        if self.failed.shape != self.ids.shape:
            raise ValueError(
                f"failed must be [N] for {len(self.ids)} ids. Received shape={self.failed.shape}."
            )
        if self.embeddings[self.failed].any():
            raise ValueError("the embedding of an image that failed must be zero.")
        is_unit = has_unit_length(self.embeddings) | self.failed
        if not is_unit.all():
            row = np.argmin(is_unit)
            length = np.linalg.norm(self.embeddings[row])
            raise ValueError(
                f"embeddings must be of unit length. {self.ids[row]} has length {length:.4g}."
            )

    @classmethod
    def trusted(
        cls,
        *,
        ids: np.ndarray,
        embeddings: np.ndarray,
        digest: str = "",
        failed: np.ndarray | None = None,
    ) -> GlobalFeatures:
        """Build a record without checking its content.

        Only for parts that were checked before or are right by construction. The arrays are not
        copied; they become read-only in place.

        Args:
            ids: str [N], unique.
            embeddings: float32 [N, D], unit length; zero where `failed`.
            digest: of the model that made the embeddings.
            failed: bool [N]; None means all False.

        Returns:
            A record that shares the given arrays.
        """
        assert ids.dtype.kind == "U"
        assert embeddings.dtype == np.float32
        assert embeddings.ndim == 2
        assert len(embeddings) == len(ids)
        if failed is None:
            failed = np.zeros(len(ids), bool)
        assert failed.shape == ids.shape
        features = cls.__new__(cls)
        set_trusted_fields(features, ids=ids, embeddings=embeddings, digest=digest, failed=failed)
        return features

    def take(self, rows: slice | np.ndarray) -> GlobalFeatures:
        """Return the features of some of the images; `rows` is a slice, a mask or row numbers."""
        return GlobalFeatures.trusted(
            ids=self.ids[rows],
            embeddings=self.embeddings[rows],
            digest=self.digest,
            failed=self.failed[rows],
        )

    def __len__(self) -> int:
        return len(self.ids)
