"""Check crops, mirrors, turns and shifts against plain loops and their distributions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from data_io.changes.geometry import (
    crop,
    mirror_left_right,
    mirror_top_bottom,
    random_resized_crop,
    rotate,
    shift_scale_rotate,
)

# The default.
MIN_CROP_SHARE = 0.7
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


def test_crops_keep_the_given_share() -> None:
    sides = {len(changed(crop, ramp(), seed, min_side_share=0.4)) for seed in range(200)}
    assert sides == set(range(4, 11))
    assert all(len(changed(crop, ramp(), seed, min_side_share=1.0)) == 10 for seed in range(20))


def test_a_rotation_is_below_the_given_angle() -> None:
    angles_deg = [rotation_deg(changed(rotate, bar(), seed, max_deg=10.0)) for seed in range(60)]
    assert 8 < np.abs(angles_deg).max() < 10.5


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


def slow_affine(pixels: np.ndarray, seed: int, limits: tuple[float, float, float]) -> np.ndarray:
    """Find the source of each pixel: undo the shift, then the turn, then the scale."""
    rng = np.random.default_rng(seed)
    rng.random()
    height, width = pixels.shape[:2]
    shift = rng.uniform(-limits[0], limits[0], 2) * [width, height]
    scale = rng.uniform(1 - limits[1], 1 + limits[1])
    angle_rad = np.radians(rng.uniform(-limits[2], limits[2]))
    # y points down, so this turns clockwise: back from a counter-clockwise turn.
    back = np.array(
        [[np.cos(angle_rad), -np.sin(angle_rad)], [np.sin(angle_rad), np.cos(angle_rad)]]
    )
    centre = np.array([width, height]) / 2
    y, x = np.mgrid[0:height, 0:width]
    target = np.stack([x, y], axis=-1) + 0.5
    source = centre + (target - centre - shift) @ back.T / scale - 0.5
    planes = [
        ndimage.map_coordinates(
            pixels[..., c].astype(float), source.T[::-1].swapaxes(1, 2), order=1, cval=np.nan
        )
        for c in range(3)
    ]
    return np.stack(planes, axis=-1)


@given(SEEDS, st.tuples(st.floats(0, 0.3), st.floats(0, 0.5), st.floats(0, 180)))
def test_shift_scale_rotate_is_one_affine_transform(
    seed: int, limits: tuple[float, float, float]
) -> None:
    pixels = ndimage.gaussian_filter(photograph(24, 31), (2, 2, 0))
    names = ("max_shift_share", "max_scale_share", "max_deg")
    changes = dict(zip(names, limits, strict=True))
    found = changed(shift_scale_rotate, pixels, seed, **changes, probability=1.0).astype(float)
    expected = slow_affine(pixels, seed, limits)
    is_inside = np.isfinite(expected)
    assert is_inside.mean() > 0.1
    assert np.abs(found - expected)[is_inside].max() <= 1
    # More than a pixel outside, all is gray.
    is_outside = ~ndimage.binary_dilation(is_inside[..., 0], iterations=2)
    assert (found[is_outside] == 127).all()


def test_shift_scale_rotate_changes_half_of_the_images_and_turns_both_ways() -> None:
    results = [changed(shift_scale_rotate, bar(), seed) for seed in range(200)]
    num_changed = sum(not np.array_equal(result, bar()) for result in results)
    assert 70 <= num_changed <= 130
    only_turned = {"max_shift_share": 0.0, "max_scale_share": 0.0, "probability": 1.0}
    turned = [changed(shift_scale_rotate, bar(), seed, **only_turned) for seed in range(60)]
    angles_deg = [rotation_deg(result) for result in turned]
    assert -45.5 < min(angles_deg) < -35
    assert 35 < max(angles_deg) < 45.5
