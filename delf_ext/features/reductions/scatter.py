"""Compute the covariances of labelled embeddings once, for all reductions that need them."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import linalg

# An eigenvalue that is smaller, relative to the largest, is rounding error.
SMALLEST = 1e-9
# Trials ask for several numbers of components: up to this one, they share a decomposition.
AT_LEAST = 256
# A shrinkage of 0 is replaced by this one: the covariance within classes is often singular.
LEAST_SHRINKAGE = 1e-6


class Components(NamedTuple):
    """Principal components, the largest first; those of variance 0 are left out.

    Attributes:
        variances: float64 [r].
        vectors: float64 [D, r], orthonormal columns.
    """

    variances: np.ndarray
    vectors: np.ndarray


def with_fixed_signs(vectors: np.ndarray) -> np.ndarray:
    """Make the largest number of each vector positive, so that equal embeddings have one digest.

    Args:
        vectors: float [D, r], columns whose sign is arbitrary.

    Returns:
        float [D, r].
    """
    largest = np.abs(vectors).argmax(axis=0)
    return vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])


class Scatter:
    """Mean and covariances of labelled embeddings, in float64. Each is computed when it is used.

    Attributes:
        mean: [D].
        num_classes: number C of classes.
    """

    def __init__(self, embeddings: np.ndarray, labels: np.ndarray) -> None:
        """Keep the embeddings.

        Args:
            embeddings: float [N, D], finite.
            labels: int [N].

        Raises:
            ValueError: the shapes do not fit, there is no embedding, or a value is not finite.
        """
        if embeddings.ndim != 2 or labels.shape != embeddings.shape[:1] or not len(embeddings):
            raise ValueError(
                "a reduction is fitted on embeddings [N, D] and labels [N], N at least 1. "
                f"Received {embeddings.shape}, {labels.shape}."
            )
        if not np.isfinite(embeddings).all():
            raise ValueError("a reduction is fitted on finite embeddings.")
        values = np.asarray(embeddings, np.float64)
        self.mean = values.mean(axis=0)
        self._centred = values - self.mean
        classes, self._class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
        self.num_classes = len(classes)
        self._shares = counts / len(labels)
        sums = np.zeros((len(classes), values.shape[1]))
        np.add.at(sums, self._class_of, self._centred)
        self._class_means = sums / counts[:, np.newaxis]
        self._components: dict[int, Components] = {}
        self._roots: dict[float, np.ndarray] = {}

    @property
    def between(self) -> np.ndarray:
        """Return B [C, D] so that B' B is the covariance of the class means, weighted by size."""
        return np.sqrt(self._shares)[:, np.newaxis] * self._class_means

    @cached_property
    def within(self) -> np.ndarray:
        """Covariance [D, D] within classes: deviations from the class means, divided by N."""
        deviations = self._centred - self._class_means[self._class_of]
        return deviations.T @ deviations / len(deviations)

    def components(self, count: int) -> Components:
        """Return the principal components of all embeddings; labels do not matter.

        The larger eigenvectors alone take half of the time of all (seen at D = 2048).

        Args:
            count: number of components that are needed.

        Returns:
            At least `count` components, or as many as there are.
        """
        count = max(count, AT_LEAST)
        if count not in self._components:
            self._components[count] = self._largest(count)
        return self._components[count]

    def _largest(self, count: int) -> Components:
        num_rows, width = self._centred.shape
        if num_rows < width:
            # The products of rows have the same eigenvalues, and there are fewer of them.
            values, rows = _eigenvectors(self._centred @ self._centred.T / num_rows, count)
            vectors = self._centred.T @ rows / np.sqrt(num_rows * values)
        else:
            total = self.within + self.between.T @ self.between
            values, vectors = _eigenvectors(total, count)
        if not len(values):
            # All embeddings are equal: any direction will do.
            return Components(np.ones(1), np.eye(width, 1))
        return Components(values, with_fixed_signs(vectors))

    @property
    def total_variance(self) -> float:
        """Sum of the variances of all dimensions."""
        return float(np.square(self._centred).sum() / len(self._centred))

    def shrunk_root(self, shrinkage: float) -> np.ndarray:
        """Return the Cholesky factor of the covariance within classes, mixed with the identity.

        The mixture is (1 - shrinkage) S + shrinkage m I, where m is the mean variance of a
        dimension. Source: Ledoit and Wolf 2004, as in scikit-learn's `shrunk_covariance`.
        A factor takes less time than the eigenvectors (seen at D = 2048: a tenth), so each
        shrinkage has its own. It is kept: several reductions ask for it.

        Args:
            shrinkage: 0 to below 1; below LEAST_SHRINKAGE, that is used.

        Returns:
            L [D, D], lower triangular; L L' is the mixture.
        """
        shrinkage = max(shrinkage, LEAST_SHRINKAGE)
        if shrinkage not in self._roots:
            self._roots[shrinkage] = self._root(shrinkage)
        return self._roots[shrinkage]

    def _root(self, shrinkage: float) -> np.ndarray:
        # Without variance within classes, only the identity is left.
        mean_variance = np.trace(self.within) / len(self.within) or 1.0
        mixture = (1 - shrinkage) * self.within
        mixture[np.diag_indices_from(mixture)] += shrinkage * mean_variance
        root: np.ndarray = linalg.cholesky(mixture, lower=True)
        return root


def _eigenvectors(covariance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues, the largest first, and their vectors; none that is 0."""
    size = len(covariance)
    values, vectors = linalg.eigh(covariance, subset_by_index=(max(size - count, 0), size - 1))
    keep = values > SMALLEST * max(values[-1], 0.0)
    return values[keep][::-1], vectors[:, keep][:, ::-1]
