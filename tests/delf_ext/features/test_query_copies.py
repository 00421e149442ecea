"""Test the copies of images against values by hand, and the models that embed them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_io.stores.embeddings import EmbeddingStore
from delf_ext.config import UsageError
from delf_ext.features.embedder import Embedder
from delf_ext.features.query_copies import (
    COPIES,
    require_known_copies,
    rotate_on_gray,
    with_copy,
)


class Pixels:
    image_size, digest = 3, "pixels"

    def embed(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(np.float32)


IMAGE = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1).repeat(3, axis=3)
GRAY = 127


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mirror", [2, 1, 0, 5, 4, 3, 8, 7, 6]),
        ("flip", [6, 7, 8, 3, 4, 5, 0, 1, 2]),
        ("turn90", [2, 5, 8, 1, 4, 7, 0, 3, 6]),  # the right column becomes the first row
        ("turn180", [8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("turn270", [6, 3, 0, 7, 4, 1, 8, 5, 2]),
    ],
)
def test_copies_equal_pixels_by_hand(name: str, expected: list[int]) -> None:
    model = with_copy(Pixels(), name)
    assert model.embed(IMAGE)[0, ::3].tolist() == expected
    assert (model.image_size, model.digest) == (3, "pixels")


def test_names_of_all_copies() -> None:
    turns = [f"turn{degrees}" for degrees in (45, 90, 180, 270, 315)]
    assert list(COPIES) == ["mirror", "flip", *turns]


def bar(size_px: int = 41) -> np.ndarray:
    """Draw a white bar from the centre to the top of a black image."""
    image = np.zeros((1, size_px, size_px, 3), np.uint8)
    centre = size_px // 2
    image[0, 3:centre, centre - 1 : centre + 2] = 255
    return image


@pytest.mark.parametrize(("name", "degrees"), [("turn45", 45), ("turn90", 90), ("turn315", -45)])
def test_turns_are_counter_clockwise(name: str, degrees: int) -> None:
    # A bar that points up points left after a quarter turn.
    copy = COPIES[name](bar())[0, ..., 0].astype(int)
    y, x = np.nonzero(copy > 200)
    assert np.degrees(np.arctan2((20 - x).mean(), (20 - y).mean())) == pytest.approx(degrees, abs=1)


@pytest.mark.parametrize("name", ["turn45", "turn315"])
def test_rotation_makes_corners_gray_and_keeps_the_middle(name: str) -> None:
    white = np.full((2, 40, 40, 3), 255, np.uint8)
    copy = COPIES[name](white)
    assert copy.shape == white.shape and copy.dtype == np.uint8
    for corner in (copy[:, 0, 0], copy[:, 0, -1], copy[:, -1, 0], copy[:, -1, -1]):
        assert (corner == GRAY).all()
    assert (copy[:, 10:30, 10:30] == 255).all()
    np.testing.assert_array_equal(copy[0], copy[1])


def test_opposite_rotations_cancel_out() -> None:
    # Interpolating a smooth image twice changes it little.
    y, x = np.mgrid[0:41, 0:41]
    picture = np.clip(100 + 2 * y + x, 0, 255).astype(np.uint8)[None, ..., None].repeat(3, axis=3)
    back = rotate_on_gray(rotate_on_gray(picture, 45.0), -45.0).astype(int)
    assert np.abs(back - picture)[0, 13:28, 13:28].max() <= 2


def test_copies_of_a_batch_equal_copies_of_single_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    for transform in COPIES.values():
        alone = np.concatenate([transform(images[row : row + 1]) for row in range(3)])
        np.testing.assert_array_equal(transform(images), alone)


def embedder(name: str, **options: object) -> Embedder:
    return Embedder(name, 3, f"digest {name}", Pixels().embed, **options)  # type: ignore[arg-type]


def test_embeddings_of_copies_have_stores_of_their_own(tmp_path: Path) -> None:
    stored = embedder("a", store=EmbeddingStore(tmp_path, "digest a", print))
    copied = with_copy(stored, "mirror")
    assert copied.store is not None and stored.store is not None
    copied.store.add(["content"], np.ones((1, 2), np.float32))
    assert len(stored.store) == 0 and len(copied.store) == 1
    # The same object again, and the same folder for the next process.
    assert with_copy(stored, "mirror").store is copied.store
    assert len(EmbeddingStore(tmp_path, "digest a", print).of_copy("mirror")) == 1
    assert len(EmbeddingStore(tmp_path, "digest a", print).of_copy("flip")) == 0


def test_unknown_copy_raises_usage_error_listing_known_copies() -> None:
    with pytest.raises(UsageError) as caught:
        require_known_copies(["mirror", "turn30"])
    known = "mirror, flip, turn45, turn90, turn180, turn270, turn315, and sizes such as x1.5"
    message = f"unknown copy 'turn30' (--query_copies, --copies, TestTime.copies). Known: {known}."
    assert str(caught.value) == message
