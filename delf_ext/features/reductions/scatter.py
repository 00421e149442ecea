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
# A variance within classes that is smaller, relative to the variance of all, is rounding error.
ROUNDING = 1e-20


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


def class_sums(embeddings: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the sum of the embeddings of each class.

    `np.add.at` takes ten times as long (seen at N = 10,000 and D = 512).

    Args:
        embeddings: float [N, D].
        labels: int [N], from 0 to C - 1.
        num_classes: C.

    Returns:
        float64 [C, D]; zero for a class without embeddings.
    """
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=num_classes))
    parts = np.split(order, ends[:-1])
    return np.array([embeddings[rows].sum(axis=0, dtype=np.float64) for rows in parts])


class Scatter:
    """Mean and covariances of labelled embeddings, in float64. Each is computed when it is used.

    With fewer embeddings than dimensions, all deviations from the mean are in a subspace of at
    most N dimensions, and so is each covariance. It is then computed in coordinates of that
    subspace (r = N), which changes no result; else r = D.

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
        self._basis: np.ndarray | None = None
        if len(values) < values.shape[1]:
            self._basis, coordinates = linalg.qr(self._centred.T, mode="economic")
            self._centred = np.ascontiguousarray(coordinates.T)
        classes, self._class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
        self.num_classes = len(classes)
        self._shares = counts / len(labels)
        sums = class_sums(self._centred, self._class_of, len(classes))
        self._class_means = sums / counts[:, np.newaxis]
        self._components: dict[int, Components] = {}
        self._roots: dict[float, np.ndarray] = {}

    @property
    def between(self) -> np.ndarray:
        """Return B [C, r] so that B' B is the covariance of the class means, weighted by size."""
        return np.sqrt(self._shares)[:, np.newaxis] * self._class_means

    @cached_property
    def within(self) -> np.ndarray:
        """Covariance [r, r] within classes: deviations from the class means, divided by N."""
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
        total = self.within + self.between.T @ self.between
        values, vectors = _eigenvectors(total, count)
        if not len(values):
            # All embeddings are equal: any direction will do.
            return Components(np.ones(1), np.eye(len(self.mean), 1))
        return Components(values, with_fixed_signs(self.lifted(vectors)))

    def lifted(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors [D, n] of the space of the embeddings.

        Args:
            vectors: float64 [r, n].
        """
        return vectors if self._basis is None else self._basis @ vectors

    def lifted_map(self, matrix: np.ndarray, factor: float) -> np.ndarray:
        """Return a linear map of the space of the embeddings.

        Args:
            matrix: float64 [r, r], the map of the subspace.
            factor: of what is orthogonal to the subspace.

        Returns:
            float64 [D, D].
        """
        if self._basis is None:
            return matrix
        matrix = matrix - factor * np.eye(len(matrix))
        lifted: np.ndarray = self._basis @ matrix @ self._basis.T
        lifted[np.diag_indices_from(lifted)] += factor
        return lifted

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
            L [r, r], lower triangular; L L' is the mixture.
        """
        if shrinkage not in self._roots:
            mixture = (1 - max(shrinkage, LEAST_SHRINKAGE)) * self.within
            mixture[np.diag_indices_from(mixture)] += self.added_variance(shrinkage)
            self._roots[shrinkage] = linalg.cholesky(mixture, lower=True)
        return self._roots[shrinkage]

    def added_variance(self, shrinkage: float) -> float:
        """Return shrinkage m of `shrunk_root`: all variance outside of the subspace."""
        variance = float(np.trace(self.within))
        if variance <= ROUNDING * self.total_variance:
            # Without variance within classes, only the identity is left.
            variance = len(self.mean)
        return max(shrinkage, LEAST_SHRINKAGE) * variance / len(self.mean)


def _eigenvectors(covariance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues, the largest first, and their vectors; none that is 0."""
    size = len(covariance)
    values, vectors = linalg.eigh(covariance, subset_by_index=(max(size - count, 0), size - 1))
    keep = values > SMALLEST * max(values[-1], 0.0)
    return values[keep][::-1], vectors[:, keep][:, ::-1]
