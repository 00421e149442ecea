"""Test RootSIFT against OpenCV's SIFT and drawn images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.images import decode_image
from data_io.records import ImageKeypoints
from delf_ext.features.local.sift import SiftConfig, SiftExtractor, root_sift, sift_features

cv2 = pytest.importorskip("cv2", reason="RootSIFT needs OpenCV: pip install -e '.[geometry]'")


def blobs(
    centers_px: list[tuple[float, float]],
    sigma_px: float,
    size_px: tuple[int, int],
    height: float = 150.0,
) -> np.ndarray:
    """Draw bright round spots on gray, uint8 [H, W, 3]."""
    y, x = np.mgrid[: size_px[1], : size_px[0]]
    light = sum(
        np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma_px**2)) for cx, cy in centers_px
    )
    return np.repeat((60 + height * light).round().astype(np.uint8)[..., None], 3, axis=2)


def texture(width: int = 160, height: int = 120, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, None, 1.5)


def strongest(image: np.ndarray, count: int, **values: object) -> ImageKeypoints:
    return sift_features(image, SiftConfig(max_features=count, **values))


def test_root_sift_by_hand() -> None:
    # Arandjelovic and Zisserman 2012, section 3: L1-normalise, then take the square roots.
    np.testing.assert_allclose(
        root_sift(np.array([[1.0, 0.0, 3.0, 12.0]])), [[0.25, 0.0, 3**0.5 / 4, 12**0.5 / 4]]
    )


def test_descriptors_are_the_roots_of_opencvs_descriptors() -> None:
    image = texture()
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    keypoints, sift = cv2.SIFT_create(
        0, contrastThreshold=0.01, enable_precise_upscale=True
    ).detectAndCompute(gray, None)
    found = strongest(image, 100_000)
    assert len(found) == len(keypoints) > 100
    order = sorted(
        range(len(keypoints)), key=lambda row: (-keypoints[row].response, keypoints[row].pt[::-1])
    )
    np.testing.assert_array_equal(
        found.keypoints_px, np.float32([keypoints[row].pt for row in order])
    )
    np.testing.assert_array_equal(
        found.attention, np.float32([keypoints[row].response for row in order])
    )
    np.testing.assert_array_equal(
        found.scales_px, np.float32([keypoints[row].size for row in order])
    )
    similarity = found.descriptors @ root_sift(sift[order]).T
    # The median, because orientations of one place may be in another order.
    assert np.median(similarity.diagonal()) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("sigma_px", [3.0, 6.0])
@pytest.mark.parametrize("reduced", [1, 3])
def test_keypoint_and_size_of_a_spot_are_in_original_pixels(sigma_px: float, reduced: int) -> None:
    center = (90.5 * reduced, 60.25 * reduced)
    image = blobs([center], sigma_px * reduced, (180 * reduced, 121 * reduced))
    found = strongest(image, 1, image_size=180)
    np.testing.assert_allclose(found.keypoints_px, [center], atol=0.15 * reduced)
    # The response to a blob of width sigma is largest near sigma / 1.13.
    assert found.scales_px[0] == pytest.approx(1.77 * sigma_px * reduced, rel=0.03)
    assert found.size_px == (180 * reduced, 121 * reduced)


def test_keypoints_are_right_if_the_sides_are_reduced_by_different_factors() -> None:
    # 2001 x 100 becomes 500 x 25: factors 4.002 and 4.
    image = blobs([(1900.0, 50.0)], 16.0, (2001, 100))
    np.testing.assert_allclose(
        strongest(image, 1, image_size=500).keypoints_px, [[1900.0, 50.0]], atol=0.6
    )


@settings(max_examples=15)
@given(st.integers(1, 60), st.integers(0, 5))
def test_fewer_features_are_the_first_of_more_features(count: int, seed: int) -> None:
    image = texture(seed=seed)
    few, many = strongest(image, count), strongest(image, 80)
    assert len(few) == count and len(many) == 80
    for name in ("keypoints_px", "scales_px", "attention", "descriptors"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:count])
    assert (np.diff(many.attention) <= 0).all()


def test_strongest_features_are_the_same_at_any_threshold() -> None:
    image = texture()
    high = strongest(image, 100_000, contrast_threshold=0.03)
    low = strongest(image, len(high), contrast_threshold=0.0)
    assert 50 < len(high) < len(strongest(image, 100_000))
    np.testing.assert_array_equal(low.keypoints_px, high.keypoints_px)
    np.testing.assert_array_equal(low.descriptors, high.descriptors)


def test_low_threshold_finds_more_features_on_faint_texture() -> None:
    faint = (texture().astype(np.float32) * 0.3 + 90).astype(np.uint8)
    assert len(strongest(faint, 1000, contrast_threshold=0.04)) < len(strongest(faint, 1000))


def test_equal_responses_are_ordered_by_position_and_cut() -> None:
    # Equal tiles have equal responses, and OpenCV then returns more features than asked for.
    image = np.tile(texture(64, 64), (5, 5, 1))
    found = strongest(image, 400)
    rows = [
        (-response, y, x)
        for response, (x, y) in zip(found.attention.tolist(), found.keypoints_px.tolist())
    ]
    assert rows == sorted(rows) and len(set(found.attention.tolist())) < 200
    for count in (1, 2, 3, 50):
        assert len(strongest(image, count)) == count


def test_features_are_the_same_again_and_on_one_thread() -> None:
    image, threads = texture(400, 300), cv2.getNumThreads()
    first, again = strongest(image, 500), strongest(image, 500)
    try:
        cv2.setNumThreads(1)
        alone = strongest(image, 500)
    finally:
        cv2.setNumThreads(threads)
    for other in (again, alone):
        for name in ("keypoints_px", "scales_px", "attention", "descriptors"):
            np.testing.assert_array_equal(getattr(first, name), getattr(other, name))


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 300), (300, 1), (2, 2), (11, 11), (3000, 2), (64, 64)]
)
@pytest.mark.parametrize("light", [0, 127, 255])
def test_uniform_image_has_no_features(shape: tuple[int, int], light: int) -> None:
    found = sift_features(np.full((*shape, 3), light, np.uint8), SiftConfig())
    assert found.descriptors.shape == (0, 128) and found.keypoints_px.shape == (0, 2)
    assert found.size_px == (shape[1], shape[0])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(0, 3))
def test_small_images_of_any_shape_give_valid_features(
    width: int, height: int, image_size: int, seed: int
) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    # The record checks that keypoints are inside the image.
    assert strongest(noise, 20, image_size=image_size).descriptors.shape[1] == 128


def test_digest_changes_with_settings_and_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    # Descriptors with equal digests before the slash can be compared.
    digests = [SiftExtractor().digest, SiftExtractor(SiftConfig(max_features=2000)).digest]
    monkeypatch.setattr(cv2, "__version__", "another")
    digests.append(SiftExtractor().digest)
    assert len(set(digests)) == 3 and len({digest.partition("/")[0] for digest in digests}) == 2


def test_extractor_takes_images_of_any_size() -> None:
    extractor = SiftExtractor(SiftConfig(max_features=30))
    images = [texture(), texture(90, 60)]
    found = extractor.extract(images)
    assert [one.size_px for one in found] == [(160, 120), (90, 60)]
    np.testing.assert_array_equal(
        found[0].descriptors, sift_features(images[0], extractor.config).descriptors
    )
    assert (
        extractor.shape_class((160, 120)) == extractor.shape_class((90, 60))
        and extractor.dimension == 128
    )
    assert extractor.made_by["extractor"] == "rootsift" and extractor.made_by["max_features"] == 30


def test_error_without_opencv_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    for needs in (
        lambda: sift_features(np.zeros((20, 20, 3), np.uint8), SiftConfig()),
        lambda: SiftExtractor(),
    ):
        with pytest.raises(ValueError) as caught:
            needs()
        message = 'RootSIFT needs OpenCV: pip install -e ".[geometry]" in the clone.'
        assert str(caught.value) == message


@pytest.mark.shared
def test_phone_photograph_matches_its_own_cover_only(shared: Path) -> None:
    covers = shared / "data" / "dvd_covers_dev"
    photo, right, wrong = (
        strongest(decode_image(covers / name), 500)
        for name in ("Palm/001.jpg", "Reference/001.jpg", "Reference/011.jpg")
    )

    def num_inliers(cover: ImageKeypoints) -> int:
        similarity = photo.descriptors @ cover.descriptors.T
        nearest = similarity.argmax(axis=1)
        mutual = similarity.argmax(axis=0)[nearest] == np.arange(len(photo))
        places = photo.keypoints_px[mutual], cover.keypoints_px[nearest[mutual]]
        return int(cv2.findHomography(*places, cv2.USAC_MAGSAC, 4.0)[1].sum())

    assert num_inliers(right) >= 30 > 15 >= num_inliers(wrong)
