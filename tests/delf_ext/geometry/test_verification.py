"""Check verification on drawn pairs, and its measures against values by hand."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import comb, log10

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.records import ImageKeypoints
from delf_ext.config import UsageError
from delf_ext.geometry.ransac import RansacConfig
from delf_ext.geometry.transforms import Plausible, apply
from delf_ext.geometry.verification import Verification, VerifyConfig, significance, spread, verify

CONFIG = VerifyConfig(ransac=RansacConfig(model="affine"))


def image(points: np.ndarray, descriptors: np.ndarray, size_px: tuple[int, int]) -> ImageKeypoints:
    unit = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    return ImageKeypoints(points, np.ones(len(points)), np.ones(len(points)), unit, size_px)


def random_image(
    seed: int, num_points: int = 150, size_px: tuple[int, int] = (640, 480)
) -> ImageKeypoints:
    rng = np.random.default_rng(seed)
    return image(
        rng.uniform(0, size_px, (num_points, 2)), rng.standard_normal((num_points, 32)), size_px
    )


def transformed_image(
    original: ImageKeypoints, seed: int, transform: np.ndarray, size_px: tuple[int, int]
) -> ImageKeypoints:
    """Return the image through a transform, with noise; half of its features are random."""
    rng = np.random.default_rng(seed)
    points = apply(transform, original.keypoints_px)
    descriptors = original.descriptors + rng.normal(0, 0.05, original.descriptors.shape)
    is_outside = (points < 0).any(1) | (points > size_px).any(1)
    is_random = (rng.random(len(original)) < 0.5) | is_outside
    points[is_random] = rng.uniform(0, size_px, (is_random.sum(), 2))
    descriptors[is_random] = rng.standard_normal((is_random.sum(), 32))
    return image(points, descriptors, size_px)


def as_lists(found: Verification) -> list:
    transform = found.gallery_from_query
    return [
        found.matches.tolist(),
        found.inliers.tolist(),
        None if transform is None else transform.tolist(),
        found.significance,
    ]


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([(640, 480), (1280, 960), (200, 150)]))
def test_finds_the_object_at_any_image_size(seed: int, size_px: tuple[int, int]) -> None:
    """The transform is in pixels of both original images."""
    gallery = random_image(seed)
    scale = size_px[0] / 640
    gallery_from_query = np.array([[0.8, -0.3, 120], [0.3, 0.8, -50], [0, 0, 1]]) @ np.diag(
        [1 / scale, 1 / scale, 1]
    )
    query = transformed_image(gallery, seed, np.linalg.inv(gallery_from_query), size_px)
    found, other = verify(query, [gallery, random_image(seed + 1)], [0, 1], CONFIG)
    assert found.num_inliers > 30
    assert found.significance > 20
    assert other.num_inliers < 8
    assert other.significance < 2
    assert found.gallery_from_query is not None
    assert found.num_inliers == found.inliers.sum()
    inliers_px = query.keypoints_px[found.matches[found.inliers, 0]]
    np.testing.assert_allclose(
        apply(found.gallery_from_query, inliers_px), apply(gallery_from_query, inliers_px), atol=2
    )


def test_result_does_not_depend_on_other_candidates_or_order() -> None:
    query = random_image(1)
    turn = np.array([[0.9, -0.2, 60], [0.2, 0.9, -20], [0, 0, 1]])
    gallery = [
        transformed_image(query, row, turn, (640, 480)) if row % 2 else random_image(row, 10 * row)
        for row in range(2, 9)
    ]
    keys = list(range(2, 9))
    reference = [as_lists(found) for found in verify(query, gallery, keys, CONFIG)]
    reverse = verify(query, gallery[::-1], keys[::-1], CONFIG)
    assert [as_lists(found) for found in reverse] == reference[::-1]
    for candidate, key, expected in zip(gallery, keys, reference):
        assert as_lists(verify(query, [candidate], [key], CONFIG)[0]) == expected

    order = np.random.default_rng(2).permutation(len(query))
    permuted = image(query.keypoints_px[order], query.descriptors[order], query.size_px)
    for found, expected in zip(verify(permuted, gallery, keys, CONFIG), reference, strict=True):
        found.matches[:, 0] = order[found.matches[:, 0]]
        assert as_lists(found)[:3] == expected[:3]


def test_mirrored_images_need_allow_mirror() -> None:
    gallery = random_image(3)
    mirrored = transformed_image(
        gallery, 3, np.array([[-1.0, 0, 640], [0, 1, 0], [0, 0, 1]]), (640, 480)
    )
    # A strip about the axis nearly fits its mirror image if it is turned by 180 degrees.
    allowing = replace(
        CONFIG, ransac=replace(CONFIG.ransac, plausible=Plausible(allow_mirror=True))
    )
    (refused,) = verify(mirrored, [gallery], [0], CONFIG)
    (allowed,) = verify(mirrored, [gallery], [0], allowing)
    assert refused.num_inliers < 15
    assert allowed.num_inliers > 60
    assert allowed.significance > 10 * refused.significance


def test_images_without_distinctive_features_have_no_inliers() -> None:
    """No keypoint, one keypoint, no descriptor length, and the same descriptor everywhere."""
    query = random_image(4)
    empty = random_image(4, 0)
    one = random_image(4, 1)
    bare = ImageKeypoints(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros((0, 0)), (0, 0))
    uniform = image(query.keypoints_px, np.ones((len(query), 32)), query.size_px)
    images = [empty, one, bare, uniform]
    for other in (query, *images):
        for found in verify(other, images, range(4), CONFIG):
            assert found.num_inliers == 0
            assert found.gallery_from_query is None
            assert found.significance == 0.0
            assert found.matches.shape == (len(found.inliers), 2)
            assert not found.inliers.any()
    assert verify(query, [], [], CONFIG) == []


def test_significance_equals_golden_value_by_hand() -> None:
    """n 10, k 6, m 3, alpha 0.01: NFA = 7 * 210 * 20 * 1e-6 = 0.0294; its -log10 is 1.531653."""
    assert significance(10, 6, 3, 0.01) == 1.531653
    assert significance(10, 3, 3, 0.01) == 0.0 == significance(1000, 4, 3, 0.01)


@given(st.integers(2, 3000), st.integers(0, 3000), st.sampled_from([2, 3, 4]), st.floats(1e-5, 1))
def test_significance_equals_exact_fractions(n: int, k: int, m: int, alpha: float) -> None:
    k = min(k, n)
    if k <= m:
        assert significance(n, k, m, alpha) == 0.0
        return
    tests = (n - m) * comb(n, k) * comb(k, m)
    exponent = len(str(tests)) - 1
    log10_tests = exponent + log10(Fraction(tests, 10**exponent))
    exact = -log10_tests - (k - m) * log10(alpha)
    assert significance(n, k, m, alpha) == pytest.approx(max(0.0, exact), abs=2e-6, rel=1e-9)


@given(st.integers(20, 500), st.integers(5, 19))
def test_significance_rises_with_inliers_and_falls_with_matches(n: int, k: int) -> None:
    assert (
        significance(n, k + 1, 3, 1e-3)
        >= significance(n, k, 3, 1e-3)
        >= significance(n + 1, k, 3, 1e-3)
    )


def test_errors_name_the_value_received() -> None:
    query = random_image(5)
    with pytest.raises(ValueError, match="one key per candidate. Received 1 for 2."):
        verify(query, [query, query], [0], CONFIG)
    with pytest.raises(UsageError, match=r"max_error_fraction must be in \(0, 1\). Received 10."):
        replace(CONFIG, max_error_fraction=10.0)
    long = image(query.keypoints_px, np.ones((150, 5)), query.size_px)
    with pytest.raises(ValueError, match=r"same d. Received \(150, 32\), \(150, 5\)"):
        verify(query, [long], [0], CONFIG)


@given(st.floats(0.0, 3.0), st.floats(0.05, 1.0), st.integers(0, 100))
def test_spread_is_the_ratio_of_the_singular_values(angle: float, thin: float, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(30, 2)) * [1.0, thin]
    points = (
        points @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 100
    )
    values = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    assert spread(points) == pytest.approx(values[1] / values[0], abs=1e-6)


def test_inliers_in_a_strip_are_not_accepted() -> None:
    """Any other line of text has as many inliers as the same one."""
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(60, 32))
    keypoints_by_height = {
        height: np.stack([rng.uniform(20, 380, 60), 150 + height * rng.uniform(-1, 1, 60)], axis=1)
        for height in (4, 100)
    }
    accepted = {}
    for height, keypoints in keypoints_by_height.items():
        strip = image(keypoints, descriptors, (400, 300))
        (found,) = verify(strip, [strip], [0], VerifyConfig())
        assert found.num_inliers > 40
        accepted[height] = found.accepted
    assert accepted == {4: False, 100: True}
