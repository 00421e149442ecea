from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.records import ImageKeypoints
from delf_ext.evaluation.match_pictures import CAPTION_PX, GAP_PX, draw_match, save_picture, stack
from delf_ext.geometry.verification import Verification, VerifyConfig, verify

QUERY_PX = (320, 240)
GALLERY_PX = (400, 200)
HEIGHT_PX = 240
GRAY = 128


def keypoints(points: np.ndarray, size_px: tuple[int, int], seed: int) -> ImageKeypoints:
    descriptors = np.random.default_rng(seed).standard_normal((len(points), 32))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return ImageKeypoints(
        points, np.full(len(points), 20), np.ones(len(points)), descriptors, size_px
    )


def gray(size_px: tuple[int, int]) -> np.ndarray:
    return np.full((size_px[1], size_px[0], 3), GRAY, np.uint8)


class Pair:
    """60 points of a query, and the same in a gallery image: half the size, moved by (150, 30)."""

    def __init__(self) -> None:
        points = np.random.default_rng(0).uniform((20, 20), (300, 220), (60, 2))
        self.query = keypoints(points, QUERY_PX, 1)
        self.gallery = keypoints(points / 2 + (150, 30), GALLERY_PX, 1)
        self.other_object = keypoints(
            np.random.default_rng(5).uniform(20, 180, (60, 2)), GALLERY_PX, 6
        )
        self.verification = self.verify(self.gallery)

    def verify(self, gallery: ImageKeypoints) -> Verification:
        (verification,) = verify(self.query, [gallery], [3], VerifyConfig())
        return verification

    def draw(
        self,
        gallery: ImageKeypoints,
        verification: Verification,
        title: str = "q0 in g0",
        **options,
    ) -> np.ndarray:
        images = gray(QUERY_PX), gray(GALLERY_PX)
        return np.asarray(
            draw_match(
                *images, self.query, gallery, verification, title, height_px=HEIGHT_PX, **options
            )
        )


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair()


def is_coloured(picture: np.ndarray) -> np.ndarray:
    return np.ptp(picture.astype(int), axis=-1) > 60


def test_images_are_side_by_side_over_a_caption(pair: Pair) -> None:
    picture = pair.draw(pair.gallery, pair.verification)
    # The gallery image is 400 x 200, shown 1.2 times larger.
    assert picture.shape == (HEIGHT_PX + CAPTION_PX, 320 + GAP_PX + 480, 3)
    assert (picture[2, 2] == GRAY).all() and (picture[2, -2] == GRAY).all()
    assert (picture[HEIGHT_PX:, :2] < 40).all()


def test_an_inlier_has_a_coloured_dot_at_both_ends_and_a_line_between(pair: Pair) -> None:
    assert pair.verification.num_inliers >= 55
    coloured = is_coloured(pair.draw(pair.gallery, pair.verification))
    for query_row, gallery_row in pair.verification.matches[pair.verification.inliers]:
        x, y = np.floor(pair.query.keypoints_px[query_row] + 0.5).astype(int)
        assert coloured[y - 1 : y + 2, x - 1 : x + 2].any()
        x, y = np.floor(
            (pair.gallery.keypoints_px[gallery_row] + 0.5) * 1.2 + (320 + GAP_PX, 0)
        ).astype(int)
        assert coloured[y - 1 : y + 2, x - 1 : x + 2].any()
    assert coloured[:HEIGHT_PX, 322 : 320 + GAP_PX - 2].any()  # lines cross the gap


def test_query_border_follows_the_transform(pair: Pair) -> None:
    picture = pair.draw(pair.gallery, pair.verification)
    middles_of_sides = ((150, 90), (309.5, 90), (230, 30), (230, 149.5))
    for x, y in middles_of_sides:
        column = round((x + 0.25) * 1.2 + 320 + GAP_PX)
        row = round((y + 0.25) * 1.2)
        window = picture[row - 3 : row + 4, column - 3 : column + 4]
        assert window.min(axis=-1).max() > 200, (x, y)
    # Nothing of the border is beside the image.
    assert picture[:HEIGHT_PX, 320 : 320 + GAP_PX].min(axis=-1).max() < 200


def test_pair_without_transform_has_pale_points_only(pair: Pair) -> None:
    nothing = Verification(np.zeros((0, 2), np.int32), np.zeros(0, bool), 0, None, 0.0)
    picture = pair.draw(pair.other_object, nothing)
    assert not is_coloured(picture).any()
    x, y = np.floor(pair.query.keypoints_px[0] + 0.5).astype(int)
    assert (picture[y, x] > GRAY + 20).all()
    strange = pair.draw(pair.other_object, pair.verify(pair.other_object), accepted=False)
    assert strange.shape == picture.shape


def test_border_beyond_the_horizon_is_not_drawn(pair: Pair) -> None:
    wild = np.array([[1, 0, 0], [0, 1, 0], [-1 / 160, 0, 1.0]])  # its horizon crosses the query
    nothing = Verification(np.zeros((0, 2), np.int32), np.zeros(0, bool), 0, wild, 0.0)
    plain = Verification(np.zeros((0, 2), np.int32), np.zeros(0, bool), 0, None, 0.0)
    right = np.s_[:HEIGHT_PX, 320 + GAP_PX :]
    assert (pair.draw(pair.gallery, nothing)[right] == pair.draw(pair.gallery, plain)[right]).all()


def test_caption_shows_acceptance_and_stays_inside(pair: Pair) -> None:
    strips = [
        pair.draw(pair.gallery, pair.verification, accepted=accepted)[HEIGHT_PX:]
        for accepted in (None, True, False)
    ]
    green, red = (strip.astype(int)[..., 1] - strip[..., 0] for strip in strips[1:])
    assert not is_coloured(strips[0]).any() and green.max() > 80 and red.min() < -80
    long = pair.draw(pair.gallery, pair.verification, title="a long id/" * 30 + "end")[HEIGHT_PX:]
    assert (long[:, -10:] < 40).all() and (long > 200).any()


def test_tall_and_wide_images_keep_their_proportions() -> None:
    tall = (40, 400)
    wide = (900, 30)
    query = keypoints(np.array([[3.0, 4.0]]), tall, 1)
    gallery = keypoints(np.array([[3.0, 4.0]]), wide, 1)
    nothing = Verification(np.zeros((0, 2), np.int32), np.zeros(0, bool), 0, None, 0.0)
    picture = draw_match(gray(tall), gray(wide), query, gallery, nothing, "t", height_px=200)
    assert picture.size == (20 + GAP_PX + 400, 200 + CAPTION_PX)
    narrow = draw_match(gray(tall), gray(tall), query, query, nothing, "t", height_px=200)
    assert narrow.width == 420


def test_stack_and_save(pair: Pair, tmp_path: Path) -> None:
    picture = Image.fromarray(pair.draw(pair.gallery, pair.verification))
    both = stack([picture, picture.crop((0, 0, 500, 100))])
    assert both.size == (picture.width, picture.height + 100)
    save_picture(tmp_path / "new" / "match.png", both)
    assert (np.asarray(Image.open(tmp_path / "new" / "match.png")) == np.asarray(both)).all()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["match.png"]


def test_refuses_image_of_another_size(pair: Pair) -> None:
    with pytest.raises(
        ValueError,
        match=r"gallery image must be uint8 \(200, 400, 3\) as its keypoints. "
        r"Received uint8 \(240, 320, 3\)",
    ):
        draw_match(gray(QUERY_PX), gray(QUERY_PX), pair.query, pair.gallery, pair.verification, "t")
