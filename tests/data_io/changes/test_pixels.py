"""Check colours, noise and holes against plain versions and their documented strength."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_io.changes.pixels import black_pixels, blur, colour_jitter, cutout, grayscale, noise

# The default.
MAX_NOISE = 0.05 * 255
SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(1, 40)


def photograph(height: int, width: int) -> np.ndarray:
    """Return bright random pixels, which show any change."""
    rng = np.random.default_rng(height * 100 + width)
    return rng.integers(30, 256, (height, width, 3), dtype=np.uint8)


def changed(change: Callable, pixels: np.ndarray, seed: int, **parameters: float) -> np.ndarray:
    return np.asarray(change(Image.fromarray(pixels), np.random.default_rng(seed), **parameters))


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


def test_grayscale_keeps_the_brightness_and_has_its_probability() -> None:
    pixels = photograph(12, 10)
    gray = np.rint(pixels @ [0.299, 0.587, 0.114])
    num_gray = 0
    for seed in range(300):
        found = changed(grayscale, pixels, seed, probability=0.3)
        if not np.array_equal(found, pixels):
            num_gray += 1
            assert np.abs(found - gray[..., None]).max() <= 1
            assert (found == found[..., :1]).all()
    assert 60 <= num_gray <= 120


@given(SIDES, SIDES, SEEDS, st.floats(0.01, 1))
def test_a_cutout_is_a_black_square_cut_off_at_the_edges(
    height: int, width: int, seed: int, side_share: float
) -> None:
    pixels = photograph(height, width)
    found = changed(cutout, pixels, seed, side_share=side_share)
    is_black = (found == 0).all(axis=2)
    np.testing.assert_array_equal(found[~is_black], pixels[~is_black])
    rows, columns = np.nonzero(is_black)
    sides = (len(set(rows)), len(set(columns)))
    side = round(side_share * min(height, width))
    assert len(rows) == sides[0] * sides[1]
    for length, axis, limit in zip(sides, (rows, columns), (height, width), strict=True):
        assert length <= side
        if length < side and len(axis):
            assert axis.min() == 0 or axis.max() == limit - 1


def test_the_centre_of_a_cutout_is_uniform_and_its_probability_is_kept() -> None:
    """Of 40 x 40, the middle is in (16 / 40)^2 of the squares; a corner in a quarter of these."""
    pixels = photograph(40, 40)
    results = [changed(cutout, pixels, seed) for seed in range(600)]
    is_black = np.mean([(result == 0).all(axis=2) for result in results], axis=0)
    assert abs(is_black[20, 20] - 0.16) < 0.05
    assert abs(is_black[0, 0] - 0.04) < 0.03
    halves = [changed(cutout, pixels, seed, probability=0.5) for seed in range(200)]
    assert 70 <= sum(np.array_equal(half, pixels) for half in halves) <= 130
