"""PCA and whitening of local descriptors: learned once from any photographs, kept in a file beside the model."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_io.artifacts import atomic_path, digest_of


@dataclass(frozen=True, eq=False)
class Whitening:
    """Unit vectors [T, C] to unit vectors [T, d]: subtract mean [C], project [C, d], normalise. made_for: digest of the model."""

    mean: np.ndarray
    projection: np.ndarray
    made_for: str = ""

    def __post_init__(self) -> None:
        if self.projection.ndim != 2 or self.mean.shape != self.projection.shape[:1]:
            raise ValueError(
                f"whitening must be mean [C], projection [C, d]. Received {self.mean.shape}, {self.projection.shape}."
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.projection).all()):
            raise ValueError("whitening must be finite.")

    @property
    def dimension(self) -> int:
        return self.projection.shape[1]

    @property
    def digest(self) -> str:
        return digest_of([self.mean.tobytes().hex(), self.projection.tobytes().hex()])

    def apply(self, descriptors: np.ndarray) -> np.ndarray:
        """The same arithmetic as in the network's graph, for NumPy."""
        projected = (descriptors - self.mean) @ self.projection
        return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)


def learn_whitening(descriptors: np.ndarray, dimension: int, made_for: str = "") -> Whitening:
    """The `dimension` directions of largest variance of [T, C], each scaled to variance 1.

    Source: Jegou & Chum 2012 (PCA and whitening); DELF, arXiv:1612.06321, section 4.3. The sign of each direction is fixed by
    its largest entry, so that the same photographs give the same file.
    Raises: ValueError when there are too few descriptors, or they span fewer dimensions.
    """
    count, width = descriptors.shape
    if not 1 <= dimension <= width or count <= dimension:
        raise ValueError(
            f"a whitening to {dimension} dimensions needs more than that many descriptors, of at least that width. "
            f"Received {count} of width {width}: give more or larger photographs, or a smaller --descriptor_dim."
        )
    mean = descriptors.mean(axis=0, dtype=np.float64)
    centred = descriptors - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / count)
    variances, directions = variances[::-1][:dimension], directions[:, ::-1][:, :dimension]
    if variances[-1] <= 1e-9 * variances[0]:
        raise ValueError(
            f"the descriptors span fewer than {dimension} dimensions: give more varied photographs."
        )
    directions *= np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(dimension)])
    return Whitening(
        mean.astype(np.float32), (directions / np.sqrt(variances)).astype(np.float32), made_for
    )


def save_whitening(path: str | Path, whitening: Whitening) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            mean=whitening.mean,
            projection=whitening.projection,
            made_for=np.asarray(whitening.made_for),
        )


def load_whitening(path: str | Path) -> Whitening:
    """Raises: ValueError naming the file when it is missing or none."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Whitening(stored["mean"], stored["projection"], str(stored["made_for"]))
    except FileNotFoundError:
        raise ValueError(f"{path}: not found. `whiten` makes one from any photographs.") from None
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        AttributeError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(
            f"{path}: not a whitening ({error}); make it again with `whiten`."
        ) from None
