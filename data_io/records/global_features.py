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
        embeddings: float32 [N, D], unit length.
        digest: of the model that made the embeddings.
    """

    ids: np.ndarray
    embeddings: np.ndarray
    digest: str = ""

    def __post_init__(self) -> None:
        set_fields(
            self, ids=readonly_texts(self.ids), embeddings=readonly(self.embeddings, np.float32)
        )
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.ids):
            raise ValueError(
                f"embeddings must be [N, D] for {len(self.ids)} ids. "
                f"Received shape={self.embeddings.shape}."
            )
        require_unique(self.ids, "image ids")
        is_unit = has_unit_length(self.embeddings)
        if not is_unit.all():
            row = np.argmin(is_unit)
            length = np.linalg.norm(self.embeddings[row])
            raise ValueError(
                f"embeddings must be of unit length. {self.ids[row]} has length {length:.4g}."
            )

    @classmethod
    def trusted(
        cls, *, ids: np.ndarray, embeddings: np.ndarray, digest: str = ""
    ) -> GlobalFeatures:
        """Build a record without checking its content.

        Only for parts that were checked before or are right by construction. The arrays are not
        copied; they become read-only in place.

        Args:
            ids: str [N], unique.
            embeddings: float32 [N, D], unit length.
            digest: of the model that made the embeddings.

        Returns:
            A record that shares the given arrays.
        """
        assert ids.dtype.kind == "U"
        assert embeddings.dtype == np.float32
        assert embeddings.ndim == 2
        assert len(embeddings) == len(ids)
        features = cls.__new__(cls)
        set_trusted_fields(features, ids=ids, embeddings=embeddings, digest=digest)
        return features

    def __len__(self) -> int:
        return len(self.ids)
