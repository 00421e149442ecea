"""Test the reductions against slow twins, scikit-learn and values by hand."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import linalg

from delf_ext.features.local.whitening import learn_whitening
from delf_ext.features.reductions import scatter
from delf_ext.features.reductions.build import fit_reduction
from delf_ext.features.reductions.projection import Projection, load_projection, save_projection
from delf_ext.recipes import schema
from delf_ext.recipes.adapted_parts import LinearReduction
from delf_ext.recipes.part import NotBuilt

ALL = (
    schema.Pca(8),
    schema.PcaWhitening(8),
    schema.PcaWhitening(8, 0.5),
    schema.WithinClassWhitening(0.0),
    schema.WithinClassWhitening(0.3),
    schema.Lda(0.0),
    schema.Lda(0.3),
    schema.Lda(0.3, dims=2),
)


def labelled(num_classes: int = 5, per_class: int = 8, width: int = 12) -> tuple[np.ndarray, ...]:
    """Return embeddings whose dimensions differ in scale and are correlated, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_classes), per_class)
    noise = rng.standard_normal((len(labels), width)) @ rng.standard_normal((width, width))
    means = rng.standard_normal((num_classes, width)) * np.linspace(0.5, 3, width)
    vectors = means[labels] + noise * np.linspace(1, 0.2, width)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), labels


def cosines(projection: Projection, vectors: np.ndarray) -> np.ndarray:
    projected = projection(vectors)
    return projected @ projected.T


def shrunk_within(vectors: np.ndarray, labels: np.ndarray, shrinkage: float) -> np.ndarray:
    """Compute the shrunk covariance within classes, one class at a time."""
    width = vectors.shape[1]
    within = np.zeros((width, width))
    for label in np.unique(labels):
        own = vectors[labels == label].astype(np.float64)
        within += len(own) / len(vectors) * np.cov(own.T, bias=True)
    return (1 - shrinkage) * within + shrinkage * np.trace(within) / width * np.eye(width)


@pytest.mark.parametrize("shrinkage", [0.03, 0.6])
def test_lda_equals_the_generalized_eigenvectors(shrinkage: float) -> None:
    vectors, labels = labelled()
    means = np.array([vectors[labels == label].mean(axis=0) for label in range(5)], np.float64)
    between = np.cov(means.T, bias=True)
    _, expected = linalg.eigh(between, shrunk_within(vectors, labels, shrinkage))
    twin = Projection(vectors.mean(axis=0), expected[:, ::-1][:, :4])
    own = fit_reduction(schema.Lda(shrinkage), vectors, labels)
    assert own.dims == 4
    np.testing.assert_allclose(cosines(own, vectors), cosines(twin, vectors), atol=2e-4)


def test_lda_without_shrinkage_equals_scikit_learn() -> None:
    discriminant_analysis = pytest.importorskip(
        "sklearn.discriminant_analysis", reason="scikit-learn is not installed"
    )
    vectors, labels = labelled(num_classes=4, per_class=40, width=6)
    peer = discriminant_analysis.LinearDiscriminantAnalysis(solver="eigen")
    peer.fit(vectors.astype(np.float64), labels)
    twin = Projection(vectors.mean(axis=0), peer.scalings_[:, :3])
    own = fit_reduction(schema.Lda(0.0), vectors, labels)
    np.testing.assert_allclose(cosines(own, vectors), cosines(twin, vectors), atol=1e-3)


def test_lda_of_two_classes_by_hand() -> None:
    # Within classes, x varies by 4 and y by 1; the means differ by (2, 2). Without shrinkage, the
    # direction is inverse(S) (2, 2), proportional to (1, 4).
    corners = np.array([[2, 1], [2, -1], [-2, 1], [-2, -1]], np.float32)
    vectors = np.concatenate([corners, corners + 2])
    fitted = fit_reduction(schema.Lda(0.0), vectors, np.repeat([0, 1], 4))
    assert fitted.matrix.shape == (2, 1)
    np.testing.assert_allclose(fitted.matrix[:, 0] / fitted.matrix[0, 0], [1, 4], rtol=1e-4)
    np.testing.assert_allclose(fitted.mean, [1, 1])


@pytest.mark.parametrize("shrinkage", [0.01, 0.9])
def test_within_class_whitening_makes_the_covariance_the_identity(shrinkage: float) -> None:
    vectors, labels = labelled()
    fitted = fit_reduction(schema.WithinClassWhitening(shrinkage), vectors, labels)
    matrix = fitted.matrix.astype(np.float64)
    whitened = matrix.T @ shrunk_within(vectors, labels, shrinkage) @ matrix
    np.testing.assert_allclose(whitened, np.eye(12), atol=1e-4)


@pytest.mark.parametrize("shrinkage", [0.0, 0.03, 0.6])
@pytest.mark.parametrize("kind", [schema.Lda, schema.WithinClassWhitening])
def test_fewer_images_than_dimensions_change_no_cosine(kind: Any, shrinkage: float) -> None:
    vectors, labels = labelled(per_class=3, width=40)
    others = np.random.default_rng(1).standard_normal((6, 40)).astype(np.float32)
    within = shrunk_within(vectors, labels, max(shrinkage, scatter.LEAST_SHRINKAGE))
    if kind is schema.Lda:
        means = np.array([vectors[labels == label].mean(axis=0) for label in range(5)], np.float64)
        _, directions = linalg.eigh(np.cov(means.T, bias=True), within)
        matrix = directions[:, ::-1][:, :4]
    else:
        matrix = np.linalg.inv(np.linalg.cholesky(within)).T
    twin = Projection(vectors.mean(axis=0), matrix)
    own = fit_reduction(kind(shrinkage), vectors, labels)
    assert own.matrix.shape == twin.matrix.shape
    # The others have parts outside of the span of the images.
    both = np.concatenate([vectors, others])
    np.testing.assert_allclose(cosines(own, both), cosines(twin, both), atol=2e-3)


def test_class_sums_equal_a_loop() -> None:
    vectors, labels = labelled()
    labels = np.where(labels == 2, 0, labels)
    expected = [vectors[labels == label].sum(axis=0) for label in range(6)]
    np.testing.assert_allclose(scatter.class_sums(vectors, labels, 6), expected, atol=1e-5)


@pytest.mark.parametrize("per_class", [2, 30])
def test_pca_keeps_the_directions_of_largest_variance(per_class: int) -> None:
    # With 10 images, there are fewer images than dimensions.
    vectors, labels = labelled(per_class=per_class)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    fitted = fit_reduction(schema.Pca(4), vectors, labels)
    assert fitted.dims == 4
    np.testing.assert_allclose(fitted.matrix @ fitted.matrix.T, rows[:4].T @ rows[:4], atol=1e-5)


@pytest.mark.parametrize("count", [320, 290])
def test_the_largest_components_are_those_of_all(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, 300)) * np.linspace(1, 3, 300)
    labels = np.arange(count) % 7
    monkeypatch.setattr(scatter, "AT_LEAST", 4)
    values, _ = scatter.Scatter(vectors, labels).components(3)
    expected = np.linalg.eigvalsh(np.cov(vectors.T, bias=True))[::-1]
    np.testing.assert_allclose(values, expected[:4])
    pca = fit_reduction(schema.Pca(6), vectors, labels)
    covariance = np.cov((vectors @ pca.matrix).T, bias=True)
    np.testing.assert_allclose(covariance, np.diag(expected[:6]), atol=1e-4)


def test_pca_whitening_equals_the_whitening_of_local_features() -> None:
    vectors, labels = labelled(per_class=30)
    expected = learn_whitening(vectors, 6)
    fitted = fit_reduction(schema.PcaWhitening(6), vectors, labels)
    np.testing.assert_allclose(fitted.matrix, expected.projection, rtol=1e-3, atol=1e-3)


def test_shrinkage_of_pca_whitening_moves_the_scales_together() -> None:
    # Variances 4 and 1 in two dimensions: mean 2.5, so at .5 they become 3.25 and 1.75.
    vectors = np.array([[2, 1], [2, -1], [-2, 1], [-2, -1]], np.float32)
    fitted = fit_reduction(schema.PcaWhitening(2, 0.5), vectors, np.zeros(4, int))
    np.testing.assert_allclose(np.abs(fitted.matrix).sum(axis=0), [3.25**-0.5, 1.75**-0.5])


def degenerate() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    vectors, labels = labelled(per_class=2, width=32)
    constant = vectors.copy()
    constant[:, 3] = 0.25
    return {
        "fewer images than dimensions": (vectors, labels),
        "constant dimension": (constant, labels),
        "all images twice": (np.repeat(vectors, 2, axis=0), np.repeat(labels, 2)),
        "one image in each class": (vectors, np.arange(len(vectors))),
        "one class": (vectors, np.zeros(len(vectors), int)),
        "classes of equal images": (vectors[labels * 2], labels),
        "equal images": (np.ones((4, 8), np.float32), np.array([0, 0, 1, 1])),
        "one image": (vectors[:1], labels[:1]),
    }


@pytest.mark.parametrize("case", degenerate())
def test_degenerate_embeddings_give_finite_projections(case: str) -> None:
    vectors, labels = degenerate()[case]
    others = np.random.default_rng(1).standard_normal((5, vectors.shape[1])).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for reduction in ALL:
            projected = fit_reduction(reduction, vectors, labels)(others)
            lengths = np.linalg.norm(projected, axis=1)
            assert np.isfinite(projected).all()
            np.testing.assert_allclose(lengths[lengths > 0], 1, rtol=1e-5)


@pytest.mark.parametrize("reduction", ALL)
def test_fit_is_deterministic_and_survives_a_file(
    reduction: LinearReduction, tmp_path: Path
) -> None:
    vectors, labels = labelled()
    fitted = fit_reduction(reduction, vectors, labels)
    assert fit_reduction(reduction, vectors, labels).digest == fitted.digest
    save_projection(tmp_path / "projection.npz", fitted)
    loaded = load_projection(tmp_path / "projection.npz")
    assert loaded.digest == fitted.digest
    np.testing.assert_array_equal(loaded(vectors), fitted(vectors))


def test_wrong_input_raises_value_error() -> None:
    vectors, labels = labelled()
    with pytest.raises(ValueError, match="finite embeddings"):
        fit_reduction(schema.Pca(), np.where(vectors == vectors.max(), np.nan, vectors), labels)
    with pytest.raises(ValueError, match=r"Received \(40, 12\), \(39,\)"):
        fit_reduction(schema.Pca(), vectors, labels[:-1])
    with pytest.raises(NotBuilt, match="EncoderDecoder is not built yet. Built: Lda, Pca, PcaWh"):
        fit_reduction(schema.EncoderDecoder(), vectors, labels)
    fitted = fit_reduction(schema.Pca(3), vectors, labels)
    with pytest.raises(ValueError, match="embeddings of 12 numbers. Received 5"):
        fitted(vectors[:, :5])


@pytest.mark.parametrize("damage", ["missing", "text", "changed"])
def test_damaged_projection_raises_value_error(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "projection.npz"
    if damage == "text":
        path.write_text("no archive")
    if damage == "changed":
        vectors, labels = labelled()
        fitted = fit_reduction(schema.Pca(3), vectors, labels)
        np.savez(path, mean=fitted.mean + 1, matrix=fitted.matrix, digest=fitted.digest)
    with pytest.raises(ValueError, match="projection.npz: .* or run `mandoo adapt` again"):
        load_projection(path)
