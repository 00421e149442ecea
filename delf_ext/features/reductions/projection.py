"""Define the result of a reduction: a linear map that is applied to embeddings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from data_io.directions import directions
from data_io.files.artifacts import one_line, read_npz, write_npz

ROWS_PER_BLOCK = 4096  # 32 MB of centred vectors at D = 2048
RESTORE = "Restore the file, or run `mandoo adapt` again."


@dataclass(frozen=True, eq=False)
class Projection:
    """Linear map of embeddings; its results have unit length.

    Attributes:
        mean: float32 [D], subtracted first.
        matrix: float32 [D, d].

    Raises:
        ValueError: the shapes do not fit, or a value is not finite.
    """

    mean: np.ndarray
    matrix: np.ndarray

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or 0 in self.matrix.shape:
            raise ValueError(f"a projection needs a matrix [D, d]. Received {self.matrix.shape}.")
        if self.mean.shape != self.matrix.shape[:1]:
            raise ValueError(
                "a projection needs mean [D] and matrix [D, d]. "
                f"Received {self.mean.shape}, {self.matrix.shape}."
            )
        for name in ("mean", "matrix"):
            values = np.array(getattr(self, name), np.float32)
            if not np.isfinite(values).all():
                raise ValueError(f"the {name} of a projection must be finite.")
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    @property
    def dims(self) -> int:
        """Dimension d of the results."""
        return self.matrix.shape[1]

    @cached_property
    def digest(self) -> str:
        """12 hex digits that change with the mean or the matrix."""
        summary = hashlib.sha256(repr(self.matrix.shape).encode())
        summary.update(self.mean.tobytes())
        summary.update(self.matrix.tobytes())
        return summary.hexdigest()[:12]

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Project embeddings.

        Args:
            embeddings: float32 [N, D].

        Returns:
            float32 [N, d] of unit length; zero for an embedding that is equal to the mean.

        Raises:
            ValueError: D is not that of the projection.
        """
        if embeddings.shape[1] != len(self.mean):
            raise ValueError(
                f"the projection is for embeddings of {len(self.mean)} numbers. "
                f"Received {embeddings.shape[1]}."
            )
        projected = np.empty((len(embeddings), self.dims), np.float32)
        for start in range(0, len(embeddings), ROWS_PER_BLOCK):
            block = slice(start, start + ROWS_PER_BLOCK)
            projected[block] = directions((embeddings[block] - self.mean) @ self.matrix)
        return projected


def save_projection(path: Path, projection: Projection | None, **columns: np.ndarray) -> None:
    """Write a projection to an .npz file, atomically.

    Args:
        path: the file.
        projection: the projection; None writes only `columns`.
        columns: further arrays for the file.
    """
    if projection is not None:
        columns |= {"mean": projection.mean, "matrix": projection.matrix}
        columns["digest"] = np.array(projection.digest)
    write_npz(path, **columns)


def load_projection(path: Path) -> Projection:
    """Read what `save_projection` wrote.

    Args:
        path: the file.

    Returns:
        The projection.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        stored = read_npz(path)
        projection = Projection(stored["mean"], stored["matrix"])
        if str(stored["digest"]) != projection.digest:
            raise ValueError("its digest does not fit")
    except FileNotFoundError:
        raise ValueError(f"{path}: not found. {RESTORE}") from None
    # A damaged archive raises many types, from KeyError to NotImplementedError.
    except Exception as error:
        raise ValueError(f"{path}: not a projection ({one_line(error)}). {RESTORE}") from None
    return projection
