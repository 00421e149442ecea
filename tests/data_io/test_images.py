from __future__ import annotations

import contextlib
import io
import math
import os
import pickle
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, TiffImagePlugin

from data_io.decoding import image_decoding
from data_io.decoding.image_decoding import decode_rgb
from data_io.images import (
    ImageError,
    check_images,
    decode_image,
    load_image,
    sufficient_px,
)
from data_io.records import ImageList
from data_io.synthetic.dataset import DrawConfig, draw_dataset

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(
    pixels: np.ndarray, file_format: str, mode: str | None = None, **options: object
) -> bytes:
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def stored(folder: Path, content: bytes, name: str = "image.jpg") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@contextlib.contextmanager
def max_pixels(limit: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANDOO_MAX_PIXELS", str(limit))
        yield


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)


def exif_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


FILES = {
    "jpeg": encoded(picture(), "JPEG"),
    "progressive": encoded(picture(), "JPEG", progressive=True),
    "png": encoded(picture(), "PNG"),
    "gif": encoded(picture(), "GIF"),
    "bmp": encoded(picture(), "BMP"),
    "webp": encoded(picture(), "WEBP"),
    "tiff": encoded(picture(), "TIFF"),
    "tiff_lzw": encoded(picture(), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("name", ["png", "bmp", "tiff", "tiff_lzw"])
def test_lossless_formats_are_decoded_exactly_with_any_suffix(tmp_path: Path, name: str) -> None:
    pixels = decode_image(stored(tmp_path, FILES[name], "image.jpg"))
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, picture())


# The visual sides of the stored row 0 and column 0. Source: EXIF 2.3, tag Orientation.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels that a camera stores, one by one from the sides in the standard."""
    height, width = upright.shape[:2]
    row_side, column_side = SIDES[orientation]
    sideways = row_side in ("left", "right")
    rows, columns = (width, height) if sideways else (height, width)
    result = np.zeros((rows, columns, 3), np.uint8)
    for row in range(rows):
        for column in range(columns):
            along_row = rows - 1 - row if row_side in ("bottom", "right") else row
            along_column = columns - 1 - column if column_side in ("bottom", "right") else column
            y, x = (along_column, along_row) if sideways else (along_row, along_column)
            result[row, column] = upright[y, x]
    return result


@pytest.mark.parametrize("orientation", sorted(SIDES))
@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, file_format: str) -> None:
    upright = picture(5, 8)
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = encoded(
        as_stored(upright, orientation), file_format, exif=exif_orientation(orientation), **options
    )
    np.testing.assert_array_equal(decode_image(stored(tmp_path, content)), upright)


def test_exif_orientation_is_applied_to_a_jpeg(tmp_path: Path) -> None:
    upright = np.zeros((32, 64, 3), np.uint8)
    # The top left quarter is white.
    upright[:16, :32] = 255
    turned = stored(tmp_path, encoded(as_stored(upright, 6), "JPEG", exif=exif_orientation(6)))
    assert np.abs(decode_image(turned).astype(int) - upright).max() < 40
    assert np.abs(load_image(turned, 16).astype(int)[:7, :7] - 255).max() < 40


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientations_are_ignored(tmp_path: Path, orientation: int) -> None:
    content = encoded(picture(), "PNG", exif=exif_orientation(orientation))
    np.testing.assert_array_equal(decode_image(stored(tmp_path, content)), picture())


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    content = encoded(picture(), "JPEG", exif=b"Exif\x00\x00 no TIFF header here")
    np.testing.assert_array_equal(
        decode_image(stored(tmp_path, content)),
        decode_image(stored(tmp_path, FILES["jpeg"], "b.jpg")),
    )


# Type BYTE instead of SHORT, LONG, a count that is too large, a pointer to nowhere.
@pytest.mark.parametrize(
    "entries",
    [
        struct.pack("<HHHI4B", 1, 0x0112, 1, 1, 6, 0, 0, 0) + bytes(4),
        struct.pack("<HHHII", 1, 0x0112, 4, 1, 6) + bytes(4),
        struct.pack("<HHHII", 40, 0x0112, 3, 1, 6) + bytes(4),
        struct.pack("<HHHIIHHII", 2, 0x0112, 3, 1, 6, 0x8769, 4, 1, 99_999) + bytes(4),
        struct.pack("<HHHIII", 1, 0x0112, 3, 1, 6, 77_777),
    ],
)
def test_orientation_in_damaged_exif_is_applied(tmp_path: Path, entries: bytes) -> None:
    upright = picture(32, 64)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entries
    turned = stored(tmp_path, encoded(as_stored(upright, 6), "JPEG", exif=exif))
    assert decode_image(turned).shape == upright.shape


def test_a_bmp_with_an_empty_fourth_byte_is_opaque(tmp_path: Path) -> None:
    pixels = picture(4, 6)
    data = np.dstack([pixels[::-1, :, ::-1], np.zeros((4, 6, 1), np.uint8)]).tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 6, 4, 1, 32, 3, len(data), 0, 0, 0, 0) + masks
    header += b"BGRs" + bytes(48)
    start = struct.pack("<IHHI", 14 + len(header) + len(data), 0, 0, 14 + len(header))
    path = stored(tmp_path, b"BM" + start + header + data)
    np.testing.assert_array_equal(decode_image(path), pixels)


def test_a_thumbnail_page_of_a_tiff_is_passed_over(tmp_path: Path) -> None:
    photograph = Image.fromarray(picture())
    thumbnail = photograph.resize((8, 6))
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[254] = 1
    path = tmp_path / "a.tif"
    with TiffImagePlugin.AppendingTiffWriter(str(path), new=True) as file:
        for page, info in ((thumbnail, tags), (photograph, None)):
            page.save(file, "TIFF", **({"tiffinfo": info} if info else {}))
            file.newFrame()
    np.testing.assert_array_equal(decode_image(path), picture())
    thumbnail.save(path, tiffinfo=tags)
    assert decode_image(path).shape == (6, 8, 3)
    tags[330] = 8
    thumbnail.save(path, tiffinfo=tags)
    with pytest.raises(ImageError, match="a raw file of a camera; save it as JPEG"):
        decode_image(path)


def test_gray_one_bit_and_palette_become_rgb(tmp_path: Path) -> None:
    gray = picture()[..., 0]
    np.testing.assert_array_equal(
        decode_image(stored(tmp_path, encoded(gray, "PNG"))), np.repeat(gray[..., None], 3, 2)
    )
    bits = (gray > 127).astype(np.uint8) * 255
    np.testing.assert_array_equal(
        decode_image(stored(tmp_path, encoded(bits, "PNG", "1"))), np.repeat(bits[..., None], 3, 2)
    )
    three_colours = np.array([[255, 0, 0], [0, 200, 0], [9, 8, 7]], np.uint8)[
        np.arange(12).reshape(3, 4) % 3
    ]
    image = Image.fromarray(three_colours).quantize(3)
    image.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "palette.png"), three_colours)


def test_alpha_is_put_over_white(tmp_path: Path) -> None:
    red = np.zeros((1, 3, 4), np.uint8)
    red[..., 0] = 255
    red[0, :, 3] = (0, 128, 255)
    pixels = decode_image(stored(tmp_path, encoded(red, "PNG")))
    # 255 * (1 - 128 / 255) = 127
    np.testing.assert_array_equal(pixels[0], [[255, 255, 255], [255, 127, 127], [255, 0, 0]])
    black = np.array([[[0, 0], [0, 51]]], np.uint8)
    channels = [Image.fromarray(black[..., channel].copy()) for channel in (0, 1)]
    Image.merge("LA", channels).save(tmp_path / "la.png")
    pixels = decode_image(tmp_path / "la.png")
    # 255 * (1 - 51 / 255) = 204
    np.testing.assert_array_equal(pixels[0], [[255, 255, 255], [204, 204, 204]])


def test_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    for name, transparency in (("index.gif", 0), ("bytes.png", b"\x00\xff")):
        image.save(tmp_path / name, transparency=transparency)
        np.testing.assert_array_equal(
            decode_image(tmp_path / name)[0], [[255, 255, 255], [40, 50, 60]]
        )


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_ink_is_dark_and_no_ink_is_white(tmp_path: Path, file_format: str) -> None:
    image = Image.new("CMYK", (32, 16), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (16, 0, 32, 16))
    image.save(tmp_path / "cmyk", file_format, **({"quality": 95} if file_format == "JPEG" else {}))
    pixels = decode_image(tmp_path / "cmyk")
    assert pixels[:, :14].min() > 250
    assert pixels[:, 18:].max() < 5


def test_inverted_ink_of_adobe_in_luminance_and_chroma_keeps_its_colours(tmp_path: Path) -> None:
    """Transform 2 (YCCK) of Adobe's marker. Source: Adobe technical note 5116, section 18."""
    colours = Image.fromarray(np.kron(picture(2, 3), np.ones((16, 16, 1), np.uint8)))
    inverted = Image.fromarray(255 - np.asarray(colours)).convert("YCbCr")
    # Pillow inverts what it writes. No black: 0.
    bands = [band.point(lambda value: 255 - value) for band in inverted.split()]
    ink = Image.merge("CMYK", [*bands, Image.new("L", colours.size, 0)])
    ink.save(tmp_path / "ink.jpg", quality=98, subsampling=0)
    content = bytearray((tmp_path / "ink.jpg").read_bytes())
    transform = content.index(b"Adobe") + 11
    assert content[transform] == 0
    content[transform] = 2
    pixels = decode_image(stored(tmp_path, bytes(content)))
    assert np.abs(pixels.astype(int) - np.asarray(colours)).mean() < 4


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled_to_eight(
    tmp_path: Path, file_format: str, byte_order: str
) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], byte_order)
    expected = np.round(values.astype(float) * 255 / 65535)
    np.testing.assert_array_equal(expected, [[0, 0, 1, 1, 128, 254, 255, 255]])
    mode = "I;16" if byte_order == "<u2" else "I;16B"
    Image.frombytes(mode, (8, 1), values.tobytes()).save(tmp_path / "wide", file_format)
    np.testing.assert_array_equal(
        decode_image(tmp_path / "wide"), np.repeat(expected[..., None], 3, 2)
    )


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames_is_decoded(tmp_path: Path, file_format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    frames[0].save(
        tmp_path / "frames", file_format, save_all=True, append_images=frames[1:], **options
    )
    with Image.open(tmp_path / "frames") as image:
        assert image.n_frames == 3
    assert (decode_image(tmp_path / "frames") == [255, 0, 0]).all()


@pytest.mark.parametrize("name", sorted(FILES))
@FEW
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_an_error_or_complete(tmp_path: Path, name: str, share: float) -> None:
    complete = decode_image(stored(tmp_path, FILES[name], "complete"))
    cut = stored(tmp_path, FILES[name][: int(share * len(FILES[name]))], "cut")
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged TIFF directories.
            warnings.simplefilter("ignore", UserWarning)
            pixels = decode_image(cut)
    except ImageError as error:
        assert error.path == str(cut)
        assert error.reason
        assert str(error) == f"{cut}: {error.reason}"
    else:
        # Only bytes after the pixels may be missing.
        assert share > 0.9
        np.testing.assert_array_equal(pixels, complete)


# GIF, WebP and raw pixels have no check of their content.
@pytest.mark.parametrize("name", ["jpeg", "progressive", "png"])
@FEW
@given(share=st.floats(0.05, 0.95))
def test_a_cut_file_padded_with_zeros_is_an_error(tmp_path: Path, name: str, share: float) -> None:
    num_bytes = int(share * len(FILES[name]))
    padded = FILES[name][:num_bytes] + bytes(len(FILES[name]) - num_bytes)
    with pytest.raises(ImageError):
        decode_image(stored(tmp_path, padded, "padded"))


@pytest.mark.parametrize("name", sorted(FILES))
@FEW
@given(data=st.data())
def test_changed_bytes_give_pixels_or_an_image_error(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    content = bytearray(FILES[name])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged TIFF directories.
            warnings.simplefilter("ignore", UserWarning)
            with max_pixels(100_000):
                pixels = decode_image(stored(tmp_path, bytes(content)))
    except ImageError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"text", "not an image, or its header is damaged"),
        (b"\n<html>404</html>", "not an image but a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS; run `git lfs pull`"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        (FILES["jpeg"][:2], "not an image"),
        (FILES["jpeg"][:-20], "truncated"),
        # A download that reserved its space and was interrupted.
        (FILES["jpeg"][:700] + bytes(len(FILES["jpeg"]) - 700), "truncated"),
        (FILES["png"][:500], "truncated|damaged"),
        (
            png_header(4, 4) + chunk(b"IDAT", b"no zlib stream") + chunk(b"IEND", b""),
            "damaged|truncated",
        ),
        (png_header(0, 4) + chunk(b"IEND", b""), "a kind of PNG that is not read|has no pixels"),
    ],
)
def test_damaged_files_are_refused_with_a_reason(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = stored(tmp_path, content)
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(path)
    assert caught.value.path == str(path)
    with pytest.raises(ImageError, match=reason):
        load_image(path, 8)


def test_unusable_paths_are_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nowhere.jpg: file not found"):
        decode_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        decode_image(tmp_path)
    with pytest.raises(ImageError, match="null byte"):
        decode_image("a\0b.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    with pytest.raises(ImageError, match="cannot be read: Too many levels of symbolic links"):
        decode_image(tmp_path / "loop.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="is not a regular file"):
        decode_image(tmp_path / "pipe.jpg")


def test_a_decompression_bomb_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_decoding(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", no_decoding)
    pillow_limit = Image.MAX_IMAGE_PIXELS
    # Pillow itself would warn of the first size and raise an error for the others.
    sizes_px = [(10_001, 10_000), (30_000, 30_000), (2**31 - 1, 2**31 - 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for width, height in sizes_px:
            message = f"{width} x {height} pixels, over the limit of 100,000,000"
            with pytest.raises(ImageError, match=message):
                decode_image(stored(tmp_path, png_header(width, height) + FILES["png"][33:]))
        message = "32 x 24 pixels, over the limit of 767"
        with max_pixels(767), pytest.raises(ImageError, match=message):
            decode_image(stored(tmp_path, FILES["png"]))
    assert pillow_limit == Image.MAX_IMAGE_PIXELS


def test_pillow_does_not_warn_below_our_limit(tmp_path: Path) -> None:
    # The header is above Pillow's limit of 89,478,485; the data have far fewer pixels.
    content = png_header(9_500, 10_000) + FILES["png"][33:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="truncated|damaged"):
            decode_image(stored(tmp_path, content))


def test_image_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "truncated")))
    assert isinstance(error, ValueError)
    assert (error.path, error.reason) == ("a.jpg", "truncated")
    assert str(error) == "a.jpg: truncated"


def triangle_weights(num_from: int, num_to: int) -> np.ndarray:
    """Return the weights [num_to, num_from] of antialiased bilinear resizing.

    They are triangles on pixel centres, as wide as one output pixel, at least one input pixel.
    """
    scale = num_from / num_to
    width = max(scale, 1.0)
    centres = (np.arange(num_to) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(num_from) + 0.5 - centres[:, None]) / width)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size_px", [7, 16, 64])
def test_load_image_is_an_antialiased_bilinear_square(tmp_path: Path, size_px: int) -> None:
    pixels = load_image(stored(tmp_path, FILES["png"]), size_px)
    by_hand = np.einsum(
        "ai,bj,ijc->abc", triangle_weights(24, size_px), triangle_weights(32, size_px), picture()
    )
    assert pixels.shape == (size_px, size_px, 3)
    assert pixels.dtype == np.uint8
    # Pillow rounds after each of its two passes.
    assert np.abs(pixels - by_hand).max() <= 1.01


def smooth(height: int, width: int, shades: int = 3) -> np.ndarray:
    """Return gray that rises from top left to bottom right; it shows any shift or turn."""
    values = np.add.outer(np.linspace(0, 100, height), np.linspace(20, 155, width))
    return np.repeat(values[..., None], shades, 2).astype(np.uint8)


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((found.astype(float) - expected) ** 2))


@FEW
@given(height=st.integers(1, 300), width=st.integers(1, 300), size_px=st.integers(1, 60))
def test_the_smallest_sufficient_scale_is_chosen(
    tmp_path: Path, height: int, width: int, size_px: int
) -> None:
    path = stored(tmp_path, encoded(np.zeros((height, width, 3), np.uint8), "JPEG"))
    fits = [scale for scale in (2, 4, 8) if min(height, width) // scale >= sufficient_px(size_px)]
    scale = max(fits, default=1)
    decoded = decode_rgb(path, sufficient_px(size_px))
    assert decoded.size == (-(-width // scale), -(-height // scale))
    assert load_image(path, size_px).shape == (size_px, size_px, 3)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_reduced_scale_is_the_mean_of_its_pixels(tmp_path: Path, scale: int) -> None:
    """Gray, because the colours of a JPEG are smoothed when they are enlarged to full size."""
    rng = np.random.default_rng(0)
    noisy = smooth(64, 96, 1)[..., 0] + rng.normal(0, 8, (64, 96))
    pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    path = stored(tmp_path, encoded(pixels, "JPEG", quality=95))
    means = decode_image(path).reshape(64 // scale, scale, 96 // scale, scale, 3).mean((1, 3))
    reduced = decode_image(path, at_least_px=64 // scale)
    assert reduced.shape == means.shape
    assert np.abs(reduced - means).max() <= 1.5


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("drawn")
    folder = draw_dataset(out, DrawConfig(3, 3, 1, 1, 640), progress=False)
    return sorted(folder.rglob("*.jpg"))


@pytest.mark.parametrize("size_px", [32, 70, 128, 224])
def test_reduced_decoding_is_close_to_full_decoding(photographs: list[Path], size_px: int) -> None:
    for path in photographs:
        reduced = load_image(path, size_px)
        full = load_image(path, size_px, reduced=False)
        if size_px == 224:
            np.testing.assert_array_equal(reduced, full)
        else:
            assert 45 < decibels(reduced, full) < np.inf


@pytest.mark.parametrize("shape", [(201, 300), (163, 171), (1000, 167)])
def test_reduced_decoding_does_not_shift_sides_that_the_scale_does_not_divide(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    path = stored(tmp_path, encoded(smooth(*shape), "JPEG", quality=95))
    decoded = decode_rgb(path, sufficient_px(16))
    assert decoded.size == (-(-shape[1] // 4), -(-shape[0] // 4))
    difference = load_image(path, 16).astype(int) - load_image(path, 16, reduced=False)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("orientation", sorted(SIDES))
def test_a_reduced_jpeg_and_a_png_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = smooth(203, 300)
    turned = as_stored(upright, orientation)
    exif = exif_orientation(orientation)
    expected = load_image(stored(tmp_path, encoded(upright, "PNG"), "upright"), 16).astype(int)
    jpeg = stored(tmp_path, encoded(turned, "JPEG", exif=exif, quality=95), "jpeg")
    png = stored(tmp_path, encoded(turned, "PNG", exif=exif), "png")
    for reduced in (True, False):
        assert np.abs(load_image(jpeg, 16, reduced=reduced) - expected).max() <= 2
        assert np.abs(load_image(png, 16, reduced=reduced) - expected).max() <= 1


def test_reduced_decoding_keeps_colours_of_gray_cmyk_and_two_pictures(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (160, 160), (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), (80, 0, 160, 160))
    ink.save(tmp_path / "cmyk", "JPEG", quality=95)
    Image.fromarray(smooth(160, 160)).convert("L").save(tmp_path / "gray", "JPEG", quality=95)
    views = [Image.fromarray(smooth(160, 160)), Image.fromarray(picture(8, 8))]
    views[0].save(tmp_path / "two", "MPO", save_all=True, append_images=views[1:], quality=95)
    for name in ("cmyk", "gray", "two"):
        assert decode_rgb(tmp_path / name, sufficient_px(8)).size == (20, 20)
        reduced = load_image(tmp_path / name, 8).astype(int)
        full = load_image(tmp_path / name, 8, reduced=False)
        assert np.abs(reduced - full).max() <= 2
    pixels = load_image(tmp_path / "cmyk", 8)
    assert pixels[:, :3].min() > 250
    assert pixels[:, 5:].max() < 5


def lossless_jpeg(gray: np.ndarray) -> bytes:
    """Encode each pixel as its difference from the left one (first column: from the upper one).

    Source: ITU T.81, annex H.
    """

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 255, marker, len(data) + 2) + data

    before = np.pad(gray.astype(int), ((0, 0), (1, 0)))[:, :-1]
    before[:, 0] = np.concatenate([[128], gray[:-1, 0]])
    bits = ""
    for difference in (gray - before).ravel().tolist():
        size = abs(difference).bit_length()
        bits += f"{size:04b}"
        if size:
            value = difference if difference > 0 else difference + 2**size - 1
            bits += f"{value:0{size}b}"
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))
    scan = scan.replace(b"\xff", b"\xff\0")
    frame = segment(0xC3, struct.pack(">BHHB", 8, *gray.shape, 1) + b"\1\x11\0")
    # The code of each size is the size itself in four bits.
    sizes = segment(0xC4, bytes([0, 0, 0, 0, 9, *[0] * 12, *range(9)]))
    return b"\xff\xd8" + frame + sizes + segment(0xDA, b"\1\1\0\1\0\0") + scan + b"\xff\xd9"


def test_a_lossless_jpeg_is_decoded_at_full_scale(tmp_path: Path) -> None:
    path = stored(tmp_path, lossless_jpeg(smooth(64, 96)[..., 0]))
    np.testing.assert_array_equal(decode_image(path), smooth(64, 96))
    np.testing.assert_array_equal(load_image(path, 8), load_image(path, 8, reduced=False))
    assert len(check_images(image_list([path]))) == 1


def outcome(path: Path, reduced: bool) -> str:
    try:
        with max_pixels(100_000):
            load_image(path, 8, reduced=reduced)
    except ImageError as error:
        return error.reason
    return ""


LARGE = {
    kind: encoded(picture(96, 128), "JPEG", progressive=kind == "progressive")
    for kind in ("jpeg", "progressive")
}


@pytest.mark.parametrize("kind", sorted(LARGE))
@pytest.mark.parametrize("padded", [False, True])
@FEW
@given(share=st.floats(0, 1))
def test_reduced_and_full_decoding_refuse_the_same_cut_files(
    tmp_path: Path, kind: str, padded: bool, share: float
) -> None:
    content = LARGE[kind]
    num_bytes = int(share * len(content))
    zeros = bytes(len(content) - num_bytes) if padded else b""
    path = stored(tmp_path, content[:num_bytes] + zeros)
    assert outcome(path, True) == outcome(path, False)
    assert outcome(path, True) or share > 0.95


@pytest.mark.parametrize("kind", sorted(LARGE))
@FEW
@given(data=st.data())
def test_reduced_and_full_decoding_refuse_the_same_damaged_files(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    content = bytearray(LARGE[kind])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[position] = data.draw(st.integers(0, 255))
    path = stored(tmp_path, bytes(content))
    assert outcome(path, True) == outcome(path, False)


@pytest.mark.parametrize(("kind", "ratio"), [("jpeg", 10), ("progressive", 2.5)])
def test_the_limit_counts_decoded_pixels(tmp_path: Path, kind: str, ratio: float) -> None:
    path = stored(tmp_path, LARGE[kind])
    for limit, at_least_px in ((96 * 128, None), (math.ceil(96 * 128 / ratio), 12)):
        with max_pixels(limit):
            assert decode_rgb(path, at_least_px).width in (16, 128)
        message = f"128 x 96 pixels, over the limit of {limit - 1:,}; --max_pixels raises it"
        with max_pixels(limit - 1), pytest.raises(ImageError, match=message):
            decode_rgb(path, at_least_px)


def test_a_jpeg_above_the_default_limit_is_reduced_whatever_the_limit_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path, LARGE["jpeg"])
    for default, width in ((96 * 128, 128), (96 * 128 - 1, 64), (48 * 64 - 1, 32), (1, 16)):
        monkeypatch.setattr(image_decoding, "MAX_PIXELS", default)
        for limit in (96 * 128, 10**9):
            with max_pixels(limit):
                assert decode_image(path).shape[1] == width
        assert load_image(path, 8, reduced=False).shape == (8, 8, 3)


def image_list(paths: list[Path], **columns: object) -> ImageList:
    return ImageList(
        np.array([f"id{row}" for row in range(len(paths))]),
        np.array([str(path) for path in paths]),
        **columns,
    )


def test_check_images_moves_bad_images_to_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = encoded(np.kron(picture(), np.ones((20, 20, 1), np.uint8)), "JPEG")
    paths = [
        stored(tmp_path, large, "good.jpg"),
        stored(tmp_path, large[: len(large) // 2], "half.jpg"),
        stored(tmp_path, large[:-20], "nearly.jpg"),
        stored(tmp_path, FILES["png"], "good.png"),
        stored(tmp_path, b"", "zero.png"),
        tmp_path / "gone.jpg",
    ]
    images = image_list(
        paths, labels=np.arange(6), groups=np.array(list("abcdef")), skipped=(("before", "why"),)
    )
    checked = check_images(images)
    assert checked.ids.tolist() == ["id0", "id3"]
    assert checked.labels.tolist() == [0, 3]
    assert checked.groups.tolist() == ["a", "d"]
    reasons = ["truncated", "truncated", "empty file", "file not found"]
    assert checked.skipped == (
        ("before", "why"),
        *zip(map(str, (paths[1], paths[2], paths[4], paths[5])), reasons, strict=True),
    )
    assert capsys.readouterr().err == ""


def test_check_images_decodes_a_jpeg_at_an_eighth(tmp_path: Path) -> None:
    path = stored(tmp_path, encoded(picture(320, 640), "JPEG"))
    assert decode_rgb(path, at_least_px=32).size == (80, 40)
    assert decode_rgb(path).size == (640, 320)


def test_a_jpeg_with_a_second_picture_or_a_trailer_is_complete(tmp_path: Path) -> None:
    two = io.BytesIO()
    second = Image.fromarray(picture(8, 8))
    Image.fromarray(picture()).save(two, "MPO", save_all=True, append_images=[second])
    with Image.open(two) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    complete = decode_image(stored(tmp_path, FILES["jpeg"]))
    for content in (two.getvalue(), FILES["jpeg"] + b"a phone's own trailer"):
        np.testing.assert_array_equal(decode_image(stored(tmp_path, content, "more.jpg")), complete)


@pytest.mark.parametrize("name", ["jpeg", "progressive"])
@FEW
@given(share=st.floats(0, 0.95))
def test_check_images_finds_every_cut_that_full_decoding_finds(
    tmp_path: Path, name: str, share: float
) -> None:
    content = encoded(picture(64, 128), "JPEG", progressive=name == "progressive")
    path = stored(tmp_path, content[: int(share * len(content))])
    with pytest.raises(ImageError):
        decode_image(path)
    assert len(check_images(image_list([path]))) == 0


def test_check_images_accepts_an_empty_list() -> None:
    assert len(check_images(image_list([]))) == 0


@pytest.mark.parametrize(
    ("is_terminal", "number", "shown"), [(True, 200, True), (True, 199, False), (False, 200, False)]
)
def test_check_images_shows_a_progress_bar_for_many_images_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, number: int, shown: bool
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    images = image_list([stored(tmp_path, FILES["png"])] * number)
    check_images(images, description="looking at photographs")
    assert ("looking at photographs" in screen.getvalue()) == shown
