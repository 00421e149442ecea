from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.images import ImageError, decode_image, load_image

END = b"\xff\xd9"


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    buffer = io.BytesIO()
    small.resize((128, 96)).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


KINDS: dict[str, dict] = {
    "sequential": {},
    "full colour": {"subsampling": 0},
    "gray": {"mode": "L"},
    "ink": {"mode": "CMYK"},
    "restarts": {"restart_marker_blocks": 4},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "progressive gray": {"progressive": True, "mode": "L"},
}


def decoded(folder: Path, content: bytes) -> np.ndarray:
    path = folder / "a.jpg"
    path.write_bytes(content)
    return decode_image(path)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_complete_pixels_are_read_without_the_end_marker(tmp_path: Path, kind: str) -> None:
    complete = jpeg(**KINDS[kind])
    assert complete.endswith(END)
    expected = decoded(tmp_path, complete)
    # A download that had reserved its space ends in zeros.
    for tail in (b"", b"\xff", bytes(500)):
        np.testing.assert_array_equal(decoded(tmp_path, complete[:-2] + tail), expected)
        assert load_image(tmp_path / "a.jpg", 8).shape == (8, 8, 3)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("tail", [b"", bytes(500), END])
def test_missing_pixels_are_refused_with_and_without_an_end_marker(
    tmp_path: Path, kind: str, tail: bytes
) -> None:
    complete = jpeg(**KINDS[kind])
    # Behind an end marker, the last scan of a progressive file changes shades by little.
    most = 60 if "progressive" in kind and tail == END else 97
    for percent in (45, most):
        with pytest.raises(ImageError, match="truncated"):
            decoded(tmp_path, complete[: len(complete) * percent // 100] + tail)
        with pytest.raises(ImageError, match="truncated"):
            load_image(tmp_path / "a.jpg", 8)


def test_an_end_marker_in_the_thumbnail_is_not_that_of_the_image(tmp_path: Path) -> None:
    thumbnail = jpeg()
    head = b"\xff\xe1" + (len(thumbnail) + 8).to_bytes(2, "big") + b"Exif\0\0" + thumbnail
    complete = jpeg()[:2] + head + jpeg()[2:]
    expected = decoded(tmp_path, jpeg())
    np.testing.assert_array_equal(decoded(tmp_path, complete), expected)
    np.testing.assert_array_equal(decoded(tmp_path, complete[:-2]), expected)
    with pytest.raises(ImageError, match="truncated"):
        decoded(tmp_path, complete[:-300])


@pytest.mark.parametrize("progressive", [False, True])
def test_a_gray_image_is_not_mistaken_for_a_cut_one(tmp_path: Path, progressive: bool) -> None:
    gray = Image.new("RGB", (64, 64), (128, 128, 128))
    gray.save(tmp_path / "gray.jpg", progressive=progressive)
    assert (decode_image(tmp_path / "gray.jpg") == 128).all()


def test_scans_of_single_components_must_all_be_there(tmp_path: Path) -> None:
    """A cut between two scans leaves a valid file that lacks colours or details."""
    complete = jpeg(progressive=True)
    starts = [place for place in range(len(complete)) if complete[place : place + 2] == b"\xff\xc4"]
    for start in starts[2:]:
        with pytest.raises(ImageError, match="truncated"):
            decoded(tmp_path, complete[:start])
