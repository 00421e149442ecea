from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_io.augmentation import (
    AUGMENTATIONS,
    augment,
    black_pixels,
    blur,
    colour_jitter,
    crop,
    mirror_left_right,
    mirror_top_bottom,
    noise,
    random_resized_crop,
    rotate,
    side_before,
)

# The defaults.
MIN_CROP_SHARE = 0.7
MAX_NOISE = 0.05 * 255
SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 40)


def photograph(height: int, width: int) -> np.ndarray:
    """Return bright random pixels, which show any change."""
    rng = np.random.default_rng(height * 100 + width)
    return rng.integers(30, 256, (height, width, 3), dtype=np.uint8)


def ramp() -> np.ndarray:
    """Return 10 x 10 pixels; each has the number of its row."""
    return np.repeat(np.arange(10, dtype=np.uint8)[:, None, None], 10, axis=1).repeat(3, axis=2)


def rotation_deg(pixels: np.ndarray) -> float:
    """Return how far a picture of `bar` was rotated."""
    y, x = np.nonzero(pixels[..., 0] > 200)
    return float(np.degrees(np.arctan2((x - 50).mean(), (50 - y).mean())))


def bar() -> np.ndarray:
    """Return a white bar from the centre to the top, on black."""
    pixels = np.zeros((101, 101, 3), np.uint8)
    pixels[5:45, 49:52] = 255
    return pixels


def changed(change: Callable, pixels: np.ndarray, seed: int, **parameters: float) -> np.ndarray:
    return np.asarray(change(Image.fromarray(pixels), np.random.default_rng(seed), **parameters))


def with_defaults(names: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return the augmentations with default parameters."""
    return {name: {} for name in names}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_augmentation_changes_the_picture(name: str) -> None:
    pixels = photograph(32, 32)
    plain = augment(pixels, 32, {}, np.random.default_rng(0))
    # The image already has the right size.
    np.testing.assert_array_equal(plain, pixels)
    results = [augment(pixels, 32, {name: {}}, np.random.default_rng(seed)) for seed in range(20)]
    assert sum(not np.array_equal(result, plain) for result in results) >= 5
    # Another seed gives another picture.
    assert len({result.tobytes() for result in results}) >= 2


@given(st.sets(st.sampled_from(AUGMENTATIONS)), SIDES, SIDES, st.integers(1, 24), SEEDS)
def test_any_augmentations_give_a_square_uint8_picture_that_depends_on_the_seed(
    names: set[str], height: int, width: int, size_px: int, seed: int
) -> None:
    pixels = photograph(height, width)
    before = pixels.copy()
    result = augment(pixels, size_px, with_defaults(names), np.random.default_rng(seed))
    assert result.shape == (size_px, size_px, 3)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(pixels, before)
    # The order of the names does not matter.
    reordered = with_defaults(sorted(names, reverse=True))
    repeated = augment(pixels, size_px, reordered, np.random.default_rng(seed))
    np.testing.assert_array_equal(result, repeated)


@given(SIDES, SIDES, SEEDS)
def test_a_crop_is_a_large_part_of_the_image(height: int, width: int, seed: int) -> None:
    rows, columns = np.mgrid[0:height, 0:width]
    part = changed(crop, np.stack([rows, columns, rows * 0], axis=2).astype(np.uint8), seed)
    assert round(MIN_CROP_SHARE * height) <= len(part) <= height
    assert round(MIN_CROP_SHARE * width) <= part.shape[1] <= width
    top, left = part[0, 0, :2]
    rows, columns = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
    np.testing.assert_array_equal(part[..., :2], np.stack([rows, columns], axis=2))
    assert part[-1, -1, 0] < height
    assert part[-1, -1, 1] < width


def test_crops_reach_each_edge() -> None:
    parts = [changed(crop, ramp(), seed)[:, 0, 0] for seed in range(200)]
    assert {len(part) for part in parts} == {7, 8, 9, 10}
    assert {part[0] for part in parts} == {0, 1, 2, 3}
    assert {part[-1] for part in parts} == {6, 7, 8, 9}


@pytest.mark.parametrize(("change", "axis"), [(mirror_left_right, 1), (mirror_top_bottom, 0)])
def test_a_mirror_is_exact_and_used_half_of_the_time(change: Callable, axis: int) -> None:
    pixels = photograph(7, 5)
    mirrored = 0
    for seed in range(200):
        result = changed(change, pixels, seed)
        is_mirror = np.array_equal(result, np.flip(pixels, axis))
        assert is_mirror or np.array_equal(result, pixels)
        mirrored += is_mirror
    assert 70 <= mirrored <= 130


def test_a_rotation_is_below_45_degrees_and_fills_with_gray() -> None:
    angles_deg = []
    for seed in range(60):
        result = changed(rotate, bar(), seed)
        angles_deg.append(rotation_deg(result))
        assert (result[0, 0] == 127).all() or abs(angles_deg[-1]) < 2
    assert np.abs(angles_deg).max() < 45.5
    assert min(angles_deg) < -30
    assert max(angles_deg) > 30


@given(SEEDS)
def test_black_pixels_are_black_in_all_channels(seed: int) -> None:
    pixels = photograph(40, 40)
    result = changed(black_pixels, pixels, seed)
    different = (result != pixels).any(axis=2)
    assert (result[different] == 0).all()
    assert different.mean() < 0.14


def test_noise_has_the_documented_strength_and_keeps_the_mean() -> None:
    gray = np.full((100, 100, 3), 128, np.uint8)
    differences = np.stack([changed(noise, gray, seed).astype(float) - 128 for seed in range(40)])
    deviations = differences.std(axis=(1, 2, 3))
    assert deviations.min() < 0.2 * MAX_NOISE
    assert 0.8 * MAX_NOISE < deviations.max() < 1.03 * MAX_NOISE
    assert np.abs(differences.mean(axis=(1, 2, 3))).max() < 0.3


def test_crops_keep_the_given_share() -> None:
    sides = {len(changed(crop, ramp(), seed, min_side_share=0.4)) for seed in range(200)}
    assert sides == set(range(4, 11))
    assert all(len(changed(crop, ramp(), seed, min_side_share=1.0)) == 10 for seed in range(20))


def test_a_rotation_is_below_the_given_angle() -> None:
    angles_deg = [rotation_deg(changed(rotate, bar(), seed, max_deg=10.0)) for seed in range(60)]
    assert 8 < np.abs(angles_deg).max() < 10.5


def test_black_pixels_noise_and_blur_have_the_given_strength() -> None:
    pixels = photograph(40, 40)
    gray = np.full((60, 60, 3), 128, np.uint8)
    for limit in (0.02, 0.6):
        results = [changed(black_pixels, pixels, seed, max_share=limit) for seed in range(60)]
        shares = [(result == 0).all(2).mean() for result in results]
        assert 0.7 * limit < max(shares) < 1.5 * limit
        strengths = [changed(noise, gray, seed, max_share=limit / 4).std() for seed in range(60)]
        assert 0.8 * limit < max(strengths) / (255 / 4) < 1.05 * limit
    sharp = pixels.astype(float).std()
    assert all(changed(blur, pixels, seed, max_px=0.0).std() == sharp for seed in range(5))
    strong = changed(blur, pixels, 0, max_px=8.0).std()
    weak = changed(blur, pixels, 0, max_px=1.0).std()
    assert strong < weak < sharp


def test_parameters_reach_augmentations_before_and_after_the_resizing() -> None:
    """Augmentations whose parameters allow no change return the plain picture."""
    pixels = photograph(40, 30)
    plain = augment(pixels, 20, {}, np.random.default_rng(0))
    no_change = {
        "rotate": {"max_deg": 0.0},
        "noise": {"max_share": 0.0},
        "crop": {"min_side_share": 1.0},
    }
    unchanged = augment(pixels, 20, no_change, np.random.default_rng(0))
    np.testing.assert_array_equal(unchanged, plain)
    noisy = augment(pixels, 20, {"noise": {}}, np.random.default_rng(0))
    assert not np.array_equal(noisy, plain)


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({}, 224),
        ({"rotate": {}}, 224),
        ({"crop": {}}, 320),
        ({"crop": {"min_side_share": 0.5}}, 448),
        ({"crop": {"min_side_share": 0.3}}, 747),
        ({"random_resized_crop": {}}, 379),
        ({"random_resized_crop": {"min_area_share": 0.08}}, 448),
    ],
)
def test_a_crop_needs_a_larger_image(changes: dict, side: int) -> None:
    """A crop of the smallest share keeps 224 px of 224 / share, rounded up; by area, at most 2x."""
    assert side_before(224, changes) == side


def parts_of(changes: dict, height: int, width: int, num: int) -> np.ndarray:
    """Return top, left, height and width of random parts, int [num, 4]."""
    rows, columns = np.mgrid[0:height, 0:width]
    places = np.stack([rows, columns, rows * 0], axis=2).astype(np.uint8)
    parts = [changed(random_resized_crop, places, seed, **changes) for seed in range(num)]
    return np.array([[*part[0, 0, :2], *part.shape[:2]] for part in parts])


def test_a_random_resized_crop_has_the_published_distribution() -> None:
    """Area uniform, logarithm of the aspect ratio uniform and symmetric, every place possible."""
    top, left, height, width = parts_of({"max_area_share": 0.5}, 200, 200, 600).T
    areas = height * width / 200**2
    assert 0.34 < areas.min() < 0.36
    assert 0.49 < areas.max() < 0.51
    assert np.mean(areas) == pytest.approx(0.425, abs=0.01)
    logs = np.log(width / height)
    assert np.abs(logs).max() == pytest.approx(np.log(4 / 3), abs=0.02)
    assert np.mean(logs) == pytest.approx(0, abs=0.03)
    # Standard deviation of a uniform distribution: its width / sqrt(12).
    assert np.std(logs) == pytest.approx(2 * np.log(4 / 3) / np.sqrt(12), abs=0.015)
    for place, side in ((top, height), (left, width)):
        shares = place / np.maximum(1, 200 - side)
        assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
        assert shares.min() < 0.02
        assert shares.max() > 0.98


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(20, 200, [0, 86, 20, 27]), (200, 20, [86, 0, 27, 20]), (30, 30, [0, 0, 30, 30])],
)
def test_a_crop_that_never_fits_is_central(height: int, width: int, expected: list[int]) -> None:
    """By hand: 20 * 4 / 3 = 26.7 px of the longer side."""
    changes = {"min_area_share": 1.0}
    found = parts_of(changes, height, width, 5)
    is_expected = (np.abs(found - expected) <= 1).all(axis=1)
    # A square fits only with an aspect ratio near 1.
    assert is_expected.all()


@given(SIDES, SIDES, SEEDS, st.floats(0.01, 1), st.floats(1, 4))
def test_a_random_resized_crop_is_inside_the_image(
    height: int, width: int, seed: int, min_area_share: float, max_aspect: float
) -> None:
    pixels = photograph(height, width)
    part = changed(
        random_resized_crop, pixels, seed, min_area_share=min_area_share, max_aspect=max_aspect
    )
    windows = np.lib.stride_tricks.sliding_window_view(pixels, part.shape)
    assert (windows == part).all(axis=(-3, -2, -1)).any()


def slow_jitter(pixels: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Change brightness, contrast and saturation one after the other, in float64."""
    rng = np.random.default_rng(seed)
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    weights = [0.299, 0.587, 0.114]
    result = pixels * brightness
    mean_gray = (result @ weights).mean()
    result = mean_gray + contrast * (result - mean_gray)
    gray = (result @ weights)[..., None]
    return np.clip(gray + saturation * (result - gray), 0, 255)


@given(st.floats(0, 1), SEEDS)
def test_colour_jitter_equals_its_three_steps(strength: float, seed: int) -> None:
    pixels = photograph(9, 7)
    found = changed(colour_jitter, pixels, seed, strength=strength)
    assert np.abs(found - slow_jitter(pixels, strength, seed)).max() <= 0.51


def test_colour_jitter_of_strength_zero_changes_nothing() -> None:
    pixels = photograph(16, 16)
    np.testing.assert_array_equal(changed(colour_jitter, pixels, 0, strength=0.0), pixels)
