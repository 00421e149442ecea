from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from data_io.synthetic.looks import QUERY_LOOK, REFERENCE_LOOK
from data_io.synthetic.photographs import render_photograph, warp


def spotted_product() -> tuple[np.ndarray, np.ndarray]:
    """Return a dark card with green discs, and their centres (x, y) in pixels."""
    centres = np.array([[30, 30], [98, 34], [64, 66], [28, 100], [96, 92]])
    card = Image.new("RGBA", (128, 128), (10, 10, 10, 255))
    for x, y in centres:
        ImageDraw.Draw(card).ellipse((x - 4, y - 4, x + 4, y + 4), fill=(0, 255, 0, 255))
    return np.array(card), centres


def project(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    mapped = np.c_[points, np.ones(len(points))] @ homography.T
    return mapped[:, :2] / mapped[:, 2:]


def find_disc(image: np.ndarray, near: np.ndarray) -> np.ndarray | None:
    """Return the centre of the green area within 8 pixels of `near`, None if there is none."""
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
    image = image.astype(float)
    green = np.clip(image[..., 1] - image[..., [0, 2]].max(axis=2) - 40, 0, None)
    green *= np.hypot(x - near[0], y - near[1]) < 8
    if green.sum() <= 400:
        return None
    return np.array([(x * green).sum(), (y * green).sum()]) / green.sum()


LOOKS = (REFERENCE_LOOK, QUERY_LOOK)


@pytest.mark.parametrize("hard", [False, True])
def test_homography_maps_the_product_to_the_photograph(hard: bool) -> None:
    card, centres = spotted_product()
    errors_px = []
    num_hidden = 0
    for view in range(12):
        rng = np.random.default_rng([view, hard])
        image, image_from_product = render_photograph(card, rng, 160, LOOKS[hard])
        assert image.shape == (160, 160, 3)
        assert image.dtype == np.uint8
        assert image_from_product.dtype == np.float64
        assert image_from_product[2, 2] == 1.0
        for expected in project(image_from_product, centres):
            centre = find_disc(image, expected)
            if centre is None:
                num_hidden += 1
            else:
                errors_px.append(np.hypot(*(centre - expected)))
    # With more hidden discs the errors would mean little.
    assert num_hidden < 15
    assert np.quantile(errors_px, 0.9) < 1.5
    assert np.median(errors_px) < 0.5


def test_warp_equals_bilinear_interpolation_by_hand() -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8))
    source = np.asarray(coarse.resize((40, 40), Image.Resampling.BICUBIC), float)
    homography = np.array([[0.8, 0.1, 4.3], [-0.15, 0.9, 6.1], [5e-4, -1e-3, 1.0]])
    fast = np.asarray(warp(Image.fromarray(source.astype(np.uint8)), homography, 40), float)
    compared = 0
    for y in range(40):
        for x in range(40):
            u, v = project(np.linalg.inv(homography), np.array([[x, y]]))[0]
            if 1 <= u < 38 and 1 <= v < 38:
                patch = source[int(v) : int(v) + 2, int(u) : int(u) + 2]
                row_weights = np.array([1 - v % 1, v % 1])
                column_weights = np.array([1 - u % 1, u % 1])
                assert abs(fast[y, x] - row_weights @ patch @ column_weights) < 1.01
                compared += 1
    assert compared > 600


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_whole_product_is_in_the_picture_and_not_mirrored(seed: int, hard: bool) -> None:
    product = np.zeros((64, 64, 4), np.uint8)
    product[5:60, 20:41] = 255
    _, homography = render_photograph(product, np.random.default_rng(seed), 64, LOOKS[hard])
    corners = project(homography, np.array([[20, 5], [40, 5], [40, 59], [20, 59]]))
    assert corners.min() > -1
    assert corners.max() < 64
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    assert (edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0] > 0).all()
