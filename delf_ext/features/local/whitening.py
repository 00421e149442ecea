"""Learn, keep and apply a PCA whitening of local descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_io.files.artifacts import digest_of, read_npz, write_npz
from data_io.files.marks import KEY, MARK


@dataclass(frozen=True, eq=False)
class Whitening:
    """Map of descriptors [T, C] to [T, d]: subtract the mean, project, normalise.

    Attributes:
        mean: float32 [C].
        projection: float32 [C, d].
        made_for: digest of the model that the descriptors are from.

    Raises:
        ValueError: shapes do not fit, or values are not finite.
    """

    mean: np.ndarray
    projection: np.ndarray
    made_for: str = ""

    def __post_init__(self) -> None:
        if self.projection.ndim != 2 or self.mean.shape != self.projection.shape[:1]:
            raise ValueError(
                "whitening must be mean [C], projection [C, d]. "
                f"Received {self.mean.shape}, {self.projection.shape}."
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.projection).all()):
            raise ValueError("whitening must be finite.")

    @property
    def dimension(self) -> int:
        """Length d of a whitened descriptor."""
        return self.projection.shape[1]

    @property
    def digest(self) -> str:
        """Digest of the mean and the projection."""
        return digest_of([self.mean.tobytes().hex(), self.projection.tobytes().hex()])


def learn_whitening(descriptors: np.ndarray, dimension: int, made_for: str = "") -> Whitening:
    """Learn the directions of largest variance, each scaled to variance 1.

    The sign of a direction is fixed by its largest entry, so that the same images give the same
    file. Source: Jegou & Chum 2012 (PCA and whitening); DELF, arXiv:1612.06321, section 4.3.

    Args:
        descriptors: [T, C], unit length.
        dimension: number d of directions to keep.
        made_for: digest of the model that the descriptors are from.

    Returns:
        The whitening from C to d dimensions.

    Raises:
        ValueError: there are too few descriptors, or they span fewer than d dimensions.
    """
    count, width = descriptors.shape
    if not 1 <= dimension <= width or count <= dimension:
        raise ValueError(
            f"a whitening to {dimension} dimensions needs more than that many descriptors, of at "
            f"least that width. Received {count} of width {width}: give more or larger "
            "images, or a smaller --descriptor_dim."
        )
    mean = descriptors.mean(axis=0, dtype=np.float64)
    centred = descriptors - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / count)
    variances = variances[::-1][:dimension]
    directions = directions[:, ::-1][:, :dimension]
    if variances[-1] <= 1e-9 * variances[0]:
        raise ValueError(
            f"the descriptors span fewer than {dimension} dimensions: give more varied images."
        )
    directions *= np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(dimension)])
    projection = directions / np.sqrt(variances)
    return Whitening(mean.astype(np.float32), projection.astype(np.float32), made_for)


def save_whitening(path: str | Path, whitening: Whitening) -> None:
    """Write a whitening to a file."""
    write_npz(path, **{KEY: MARK}, **vars(whitening))


def load_whitening(path: str | Path) -> Whitening:
    """Read a whitening from a file.

    Args:
        path: of the file.

    Returns:
        The whitening.

    Raises:
        ValueError: the file is missing, or is not a whitening.
    """
    try:
        stored = read_npz(path)
        return Whitening(stored["mean"], stored["projection"], str(stored["made_for"]))
    except FileNotFoundError:
        raise ValueError(f"{path}: not found. `mandoo whiten` makes one from any images.") from None
    # A damaged archive raises many types, from KeyError to NotImplementedError.
    except Exception as error:
        raise ValueError(
            f"{path}: not a whitening ({error}); make it again with `whiten`."
        ) from None
