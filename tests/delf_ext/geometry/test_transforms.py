"""Check fits of plane transforms against LAPACK, values by hand and a slow plausibility check."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delf_ext.config import UsageError
from delf_ext.geometry.least_squares import fit_least_squares, is_plausible_at
from delf_ext.geometry.transforms import (
    MODELS,
    Plausible,
    apply,
    index_of_model,
    matched_points,
)

HOMOGRAPHY = np.array([[0.9, 0.2, 30.0], [-0.15, 1.1, -20.0], [2e-4, -1e-4, 1.0]])
AFFINE = np.array([[0.9, 0.2, 30.0], [-0.15, 1.1, -20.0], [0.0, 0.0, 1.0]])
SIMILARITY = np.array([[0.8, -0.6, 30.0], [0.6, 0.8, -20.0], [0.0, 0.0, 1.0]])
EXACT = dict(zip(MODELS, (SIMILARITY, AFFINE, HOMOGRAPHY)))


def fit(model: str, query: np.ndarray, gallery: np.ndarray) -> np.ndarray | None:
    """Fit a transform [3, 3] to all points; None if they do not determine it."""
    h = np.zeros(9)
    points = matched_points(query, gallery)
    if fit_least_squares(index_of_model(model), points, np.arange(len(query)), h):
        return h.reshape(3, 3)
    return None


def is_plausible(h: np.ndarray, query: np.ndarray, plausible: Plausible) -> bool:
    points = matched_points(query, query)
    limits = plausible.for_compiled_code()
    return is_plausible_at(h.astype(np.float64).ravel(), points, np.arange(len(query)), limits)


def residuals_px(h: np.ndarray, query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return np.linalg.norm(apply(h, query) - gallery, axis=1)


def random_points(seed: int, num_points: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1000, (num_points, 2))


def slow_fit(model: str, query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Solve dense equations with LAPACK; for a homography by the singular vectors (DLT)."""
    x, y = query.T
    one = np.ones(len(query))
    nil = np.zeros(len(query))
    if model == "similarity":
        equations = np.concatenate([np.stack([x, -y, one, nil], 1), np.stack([y, x, nil, one], 1)])
        a, b, u, v = np.linalg.lstsq(equations, gallery.T.ravel(), rcond=None)[0]
        return np.array([[a, -b, u], [b, a, v], [0, 0, 1]])
    if model == "affine":
        return np.vstack(
            [np.linalg.lstsq(np.stack([x, y, one], 1), gallery, rcond=None)[0].T, [0, 0, 1]]
        )
    normal = [np.diag([1 / points.std(), 1 / points.std(), 1]) for points in (query, gallery)]
    for matrix, points in zip(normal, (query, gallery)):
        matrix[:2, 2] = -points.mean(0) / points.std()
    p = np.stack([x, y, one], 1) @ normal[0].T
    u, v = apply(normal[1], gallery).T[:, :, None]
    equations = np.concatenate([np.hstack([p, 0 * p, -u * p]), np.hstack([0 * p, p, -v * p])])
    h = np.linalg.inv(normal[1]) @ np.linalg.svd(equations)[2][-1].reshape(3, 3) @ normal[0]
    return h / h[2, 2]


def test_fits_equal_golden_values_by_hand() -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    moved = np.array([[2.0, 3.0], [4.0, 3.0], [2.0, 7.0]])
    np.testing.assert_allclose(
        fit("affine", corners[:3], moved), [[2, 0, 2], [0, 4, 3], [0, 0, 1]], atol=1e-12
    )
    turned = np.array([[5.0, 0.0], [5.0, 2.0]])
    np.testing.assert_allclose(
        fit("similarity", corners[:2], turned), [[0, -2, 5], [2, 0, 0], [0, 0, 1]], atol=1e-12
    )
    # (x, y) / (x + 1)
    shrunk = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 1.0], [0.5, 0.5]])
    np.testing.assert_allclose(
        fit("homography", corners, shrunk), [[1, 0, 0], [0, 1, 0], [1, 0, 1]], atol=1e-12
    )
    assert apply(
        np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 1]]), np.array([[3.0, 8.0]])
    ).tolist() == [[0.75, 2.0]]
    assert residuals_px(np.eye(3), np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])).tolist() == [5.0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("extra", [0, 1, 60])
def test_points_without_noise_give_the_exact_transform(model: str, extra: int) -> None:
    query = random_points(1, MODELS.index(model) + 2 + extra)
    gallery = apply(EXACT[model], query)
    np.testing.assert_allclose(fit(model, query, gallery), EXACT[model], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(slow_fit(model, query, gallery), EXACT[model], rtol=1e-6, atol=1e-6)


@given(st.integers(0, 10_000), st.sampled_from(MODELS[:2]), st.integers(4, 40))
def test_fits_of_noisy_points_equal_lapack(seed: int, model: str, num_points: int) -> None:
    query = random_points(seed, num_points)
    noise = random_points(seed + 1, num_points) / 100
    gallery = apply(EXACT[model], query) + noise
    np.testing.assert_allclose(
        fit(model, query, gallery), slow_fit(model, query, gallery), rtol=1e-6, atol=1e-6
    )


@given(st.integers(0, 10_000), st.integers(6, 40))
def test_homography_of_noisy_points_has_nearly_the_least_residuals(
    seed: int, num_points: int
) -> None:
    """Not above the direct linear transform, and at most 1 % above the minimum (Gauss-Newton)."""
    query = random_points(seed, num_points)
    noise = np.random.default_rng(seed).normal(0, 2, (num_points, 2))
    gallery = apply(HOMOGRAPHY, query) + noise
    ours = fit("homography", query, gallery)
    assert ours is not None
    linear = slow_fit("homography", query, gallery)
    transforms = (ours, linear, gauss_newton(linear, query, gallery))
    ours_sum, linear_sum, least_sum = (
        (residuals_px(h, query, gallery) ** 2).sum() for h in transforms
    )
    assert ours_sum <= 1.01 * least_sum
    assert ours_sum <= 1.001 * linear_sum


def gauss_newton(h: np.ndarray, query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    for _ in range(8):
        u, v = apply(h, query).T[:, :, None]
        p = np.column_stack([query, np.ones(len(query))])
        p /= p @ h[2][:, None]
        slopes = np.concatenate(
            [np.hstack([p, 0 * p, -u * p[:, :2]]), np.hstack([0 * p, p, -v * p[:, :2]])]
        )
        step = np.linalg.lstsq(slopes, (gallery - np.hstack([u, v])).T.ravel(), rcond=None)[0]
        h = h + np.append(step, 0).reshape(3, 3)
    return h


@pytest.mark.parametrize("model", MODELS)
def test_fit_refuses_points_that_do_not_determine_the_transform(model: str) -> None:
    size = MODELS.index(model) + 2
    same = np.ones((6, 2))
    line = np.arange(6.0)[:, None] * [3.0, 4.0] + 100
    assert fit(model, random_points(2, size - 1), random_points(3, size - 1)) is None
    assert fit(model, same, random_points(4, 6)) is None
    assert model == "similarity" or fit(model, line, random_points(5, 6)) is None
    assert fit(model, np.zeros((0, 2)), np.zeros((0, 2))) is None


def test_three_of_four_points_on_a_line_determine_no_plausible_homography() -> None:
    query = np.array([[0.0, 0.0], [10.0, 10.0], [20.0, 20.0], [5.0, 0.0]])
    h = fit("homography", query, random_points(6, 4))
    assert h is None or not is_plausible(h, query, Plausible())


@given(st.integers(0, 10_000), st.floats(1.2, 5), st.floats(1.2, 5), st.booleans())
def test_is_plausible_equals_singular_values_of_finite_differences(
    seed: int, max_scale: float, max_anisotropy: float, allow_mirror: bool
) -> None:
    rng = np.random.default_rng(seed)
    h = np.eye(3) + rng.normal(0, [[0.5, 0.5, 9], [0.5, 0.5, 9], [4e-4, 4e-4, 0]])
    points = random_points(seed, 5)
    plausible = Plausible(max_scale, max_anisotropy, allow_mirror)
    expected = len(set(np.sign(points @ h[2, :2] + 1))) == 1
    for point in points:
        steps = apply(h, point + 1e-4 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]))
        slope = np.stack([steps[0] - steps[1], steps[2] - steps[3]], 1) / 2e-4
        s, t = np.linalg.svd(slope)[1]
        scale_fits = 1 / max_scale <= (s * t) ** 0.5 <= max_scale
        expected &= bool(
            scale_fits and s / t <= max_anisotropy and (allow_mirror or np.linalg.det(slope) > 0)
        )
    assert is_plausible(h, points, plausible) == expected


def test_is_plausible_accepts_camera_moves_and_refuses_the_rest() -> None:
    points = random_points(7, 20)
    for plausible in (
        HOMOGRAPHY,
        SIMILARITY,
        np.diag([3.9, 3.9, 1]) @ SIMILARITY,
        np.diag([1.7, 0.6, 1]),
    ):
        assert is_plausible(plausible, points, Plausible())
    for implausible in (
        np.diag([-1.0, 1, 1]),
        np.diag([4.1, 4.1, 1]),
        np.diag([0.2, 0.2, 1]),
        np.diag([2.0, 0.6, 1]),
        np.zeros((3, 3)),
    ):
        assert not is_plausible(implausible, points, Plausible())
    # Its horizon, x = 500, separates the points.
    folding = np.array([[1.0, 0, 0], [0, 1, 0], [-1 / 500, 0, 1]])
    assert not is_plausible(folding, points, Plausible(1e6, 1e6, True))
    assert is_plausible(np.diag([-1.0, 1, 1]), points, Plausible(allow_mirror=True))


def test_errors_name_the_value_received() -> None:
    with pytest.raises(
        UsageError,
        match="model must be one of similarity, affine, homography. Received projective.",
    ):
        index_of_model("projective")
    with pytest.raises(ValueError, match=r"both be \[K, 2\]. Received \(4, 2\) and \(5, 2\)"):
        matched_points(random_points(1, 4), random_points(2, 5))
    with pytest.raises(UsageError, match="max_anisotropy must be at least 1. Received 0.5."):
        Plausible(max_anisotropy=0.5)
