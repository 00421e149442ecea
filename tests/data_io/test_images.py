from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from data_io.images import (
    ImageError,
    _decode_rgb,
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


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    )


def exif_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


WHOLE = {
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
def test_lossless_formats_come_back_exactly_whatever_the_extension(
    tmp_path: Path, name: str
) -> None:
    pixels = decode_image(stored(tmp_path, WHOLE[name], "image.jpg"))
    assert pixels.dtype == np.uint8 and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, picture())


# EXIF 2.3, tag Orientation: which visual side the stored 0th row and 0th column are
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
    """Slow twin: the pixels a camera stores, one by one from the sides that the standard names."""
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


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32] = 255  # white top left
    turned = stored(tmp_path, encoded(as_stored(upright, 6), "JPEG", exif=exif_orientation(6)))
    assert np.abs(decode_image(turned).astype(int) - upright).max() < 40
    assert np.abs(load_image(turned, 16).astype(int)[:7, :7] - 255).max() < 40


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientation_outside_the_standard_means_as_stored(tmp_path: Path, orientation: int) -> None:
    content = encoded(picture(), "PNG", exif=exif_orientation(orientation))
    np.testing.assert_array_equal(decode_image(stored(tmp_path, content)), picture())


def test_damaged_exif_does_not_lose_the_pixels(tmp_path: Path) -> None:
    content = encoded(picture(), "JPEG", exif=b"Exif\x00\x00 no TIFF header here")
    np.testing.assert_array_equal(
        decode_image(stored(tmp_path, content)),
        decode_image(stored(tmp_path, WHOLE["jpeg"], "b.jpg")),
    )


def test_gray_one_bit_and_palette(tmp_path: Path) -> None:
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


def test_alpha_lies_over_white(tmp_path: Path) -> None:
    red = np.zeros((1, 3, 4), np.uint8)
    red[..., 0] = 255
    red[0, :, 3] = (0, 128, 255)
    pixels = decode_image(stored(tmp_path, encoded(red, "PNG")))
    np.testing.assert_array_equal(
        pixels[0], [[255, 255, 255], [255, 127, 127], [255, 0, 0]]
    )  # 255 * (1 - 128 / 255) = 127
    black = np.array([[[0, 0], [0, 51]]], np.uint8)
    Image.merge("LA", [Image.fromarray(black[..., channel].copy()) for channel in (0, 1)]).save(
        tmp_path / "la.png"
    )
    pixels = decode_image(tmp_path / "la.png")
    np.testing.assert_array_equal(
        pixels[0], [[255, 255, 255], [204, 204, 204]]
    )  # 255 * (1 - 51 / 255) = 204


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
    assert pixels[:, :14].min() > 250 and pixels[:, 18:].max() < 5


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled(tmp_path: Path, file_format: str, byte_order: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], byte_order)
    expected = np.round(values.astype(float) * 255 / 65535)  # 0, 0, 1, 1, 128, 254, 255, 255
    np.testing.assert_array_equal(expected, [[0, 0, 1, 1, 128, 254, 255, 255]])
    mode = "I;16" if byte_order == "<u2" else "I;16B"
    Image.frombytes(mode, (8, 1), values.tobytes()).save(tmp_path / "wide", file_format)
    np.testing.assert_array_equal(
        decode_image(tmp_path / "wide"), np.repeat(expected[..., None], 3, 2)
    )


def test_thirty_two_bits_are_taken_when_they_fit_and_refused_when_not(tmp_path: Path) -> None:
    for values, fits in (([[0, 65535]], True), ([[0, 65536]], False), ([[-1, 5]], False)):
        Image.fromarray(np.array(values, np.int32)).save(tmp_path / "wide.tif")
        if fits:
            np.testing.assert_array_equal(decode_image(tmp_path / "wide.tif")[0, :, 0], [0, 255])
        else:
            with pytest.raises(
                ImageError,
                match="wide.tif: pixels of more than 16 bits, their range unknown; save it with 8",
            ):
                decode_image(tmp_path / "wide.tif")
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ImageError, match="float.tif: pixels of more than 16 bits"):
        decode_image(tmp_path / "float.tif")


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_several(tmp_path: Path, file_format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    frames[0].save(
        tmp_path / "frames", file_format, save_all=True, append_images=frames[1:], **options
    )
    with Image.open(tmp_path / "frames") as image:
        assert image.n_frames == 3
    assert (decode_image(tmp_path / "frames") == [255, 0, 0]).all()


@pytest.mark.parametrize("name", sorted(WHOLE))
@FEW
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_an_error_or_whole_but_never_half(
    tmp_path: Path, name: str, share: float
) -> None:
    whole = decode_image(stored(tmp_path, WHOLE[name], "whole"))
    cut = stored(tmp_path, WHOLE[name][: int(share * len(WHOLE[name]))], "cut")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # Pillow's remarks on damaged TIFF directories
            pixels = decode_image(cut)
    except ImageError as error:
        assert error.path == str(cut) and error.reason
        assert str(error) == f"{cut}: {error.reason}"
    else:
        assert share > 0.9  # only what lies behind the pixels may be missing
        np.testing.assert_array_equal(pixels, whole)


@pytest.mark.parametrize(
    "name", ["jpeg", "progressive", "png"]
)  # GIF, WebP and raw pixels have no check of their content
@FEW
@given(share=st.floats(0.05, 0.95))
def test_a_cut_file_padded_with_zeros_is_not_taken_for_whole(
    tmp_path: Path, name: str, share: float
) -> None:
    kept = int(share * len(WHOLE[name]))
    with pytest.raises(ImageError):
        decode_image(
            stored(tmp_path, WHOLE[name][:kept] + bytes(len(WHOLE[name]) - kept), "padded")
        )


@pytest.mark.parametrize("name", sorted(WHOLE))
@FEW
@given(data=st.data())
def test_changed_bytes_end_in_pixels_or_in_an_image_error(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    content = bytearray(WHOLE[name])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # Pillow's remarks on damaged TIFF directories
            pixels = decode_image(stored(tmp_path, bytes(content)), max_pixels=100_000)
    except ImageError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>404</html>", r"not an image \(JPEG, PNG, GIF, BMP, WEBP, TIFF\)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        (WHOLE["jpeg"][:2], "not an image"),
        (WHOLE["jpeg"][:-20], "truncated"),
        (
            WHOLE["jpeg"][:700] + bytes(len(WHOLE["jpeg"]) - 700),
            "truncated",
        ),  # a download that reserved its space
        (WHOLE["png"][:500], "truncated|damaged"),
        (
            png_header(4, 4) + chunk(b"IDAT", b"no zlib stream") + chunk(b"IEND", b""),
            "damaged|truncated",
        ),
        (png_header(0, 4) + chunk(b"IEND", b""), "not an image|has no pixels"),
        (
            png_header(4, 4)
            + chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(3_000_000)))
            + WHOLE["png"][33:],
            "damaged",
        ),
    ],
)
def test_reasons(tmp_path: Path, content: bytes, reason: str) -> None:
    path = stored(tmp_path, content)
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(path)
    assert caught.value.path == str(path)
    with pytest.raises(ImageError, match=reason):
        load_image(path, 8)


def test_reasons_of_paths(tmp_path: Path) -> None:
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
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="is not a regular file"):
        decode_image(tmp_path / "pipe.jpg")


def test_a_bomb_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_decoding(*_: object) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", no_decoding)
    usual = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for width, height in (
            (10_001, 10_000),
            (30_000, 30_000),
            (2**31 - 1, 2**31 - 1),
        ):  # Pillow: a warning, an error, an error
            with pytest.raises(
                ImageError, match=f"{width} x {height} pixels, over the limit of 100,000,000"
            ):
                decode_image(stored(tmp_path, png_header(width, height) + WHOLE["png"][33:]))
        with pytest.raises(ImageError, match="32 x 24 pixels, over the limit of 767"):
            decode_image(stored(tmp_path, WHOLE["png"]), max_pixels=767)
    assert usual == Image.MAX_IMAGE_PIXELS


def test_pillow_does_not_warn_below_our_limit(tmp_path: Path) -> None:
    content = (
        png_header(9_500, 10_000) + WHOLE["png"][33:]
    )  # over Pillow's 89,478,485, and far too few pixels in it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="truncated|damaged"):
            decode_image(stored(tmp_path, content))


def test_image_error_survives_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "truncated")))
    assert isinstance(error, ValueError) and (error.path, error.reason, str(error)) == (
        "a.jpg",
        "truncated",
        "a.jpg: truncated",
    )


def triangle_weights(num_from: int, num_to: int) -> np.ndarray:
    """Slow twin: antialiased bilinear = a triangle as wide as one output pixel (at least one input pixel) on pixel centres."""
    scale = num_from / num_to
    width = max(scale, 1.0)
    centres = (np.arange(num_to) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(num_from) + 0.5 - centres[:, None]) / width)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size_px", [7, 16, 64])
def test_load_image_is_an_antialiased_bilinear_square(tmp_path: Path, size_px: int) -> None:
    pixels = load_image(stored(tmp_path, WHOLE["png"]), size_px)
    by_hand = np.einsum(
        "ai,bj,ijc->abc", triangle_weights(24, size_px), triangle_weights(32, size_px), picture()
    )
    assert pixels.shape == (size_px, size_px, 3) and pixels.dtype == np.uint8
    assert np.abs(pixels - by_hand).max() <= 1.01  # Pillow rounds after each of its two passes


def smooth(height: int, width: int, shades: int = 3) -> np.ndarray:
    """Gray rising from the top left to the bottom right: shows a result that is shifted or turned."""
    values = np.add.outer(np.linspace(0, 100, height), np.linspace(20, 155, width))
    return np.repeat(values[..., None], shades, 2).astype(np.uint8)


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((found.astype(float) - expected) ** 2))


@FEW
@given(height=st.integers(1, 300), width=st.integers(1, 300), size_px=st.integers(1, 60))
def test_the_scale_is_the_smallest_that_keeps_enough(
    tmp_path: Path, height: int, width: int, size_px: int
) -> None:
    path = stored(tmp_path, encoded(np.zeros((height, width, 3), np.uint8), "JPEG"))
    fits = [scale for scale in (2, 4, 8) if min(height, width) // scale >= sufficient_px(size_px)]
    scale = max(fits, default=1)
    assert _decode_rgb(path, 10**8, sufficient_px(size_px)).size == (
        -(-width // scale),
        -(-height // scale),
    )
    assert load_image(path, size_px).shape == (size_px, size_px, 3)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_reduced_scale_is_the_mean_of_its_pixels(tmp_path: Path, scale: int) -> None:
    """Slow twin of DCT scaling. Gray, because the colours of a JPEG are smoothed when they are enlarged to full size."""
    rng = np.random.default_rng(0)
    pixels = np.clip(smooth(64, 96, 1)[..., 0] + rng.normal(0, 8, (64, 96)), 0, 255).astype(
        np.uint8
    )
    path = stored(tmp_path, encoded(pixels, "JPEG", quality=95))
    means = decode_image(path).reshape(64 // scale, scale, 96 // scale, scale, 3).mean((1, 3))
    reduced = decode_image(path, at_least_px=64 // scale)
    assert reduced.shape == means.shape and np.abs(reduced - means).max() <= 1.5


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = draw_dataset(
        tmp_path_factory.mktemp("drawn"), DrawConfig(3, 3, 1, 1, 640), progress=False
    )
    return sorted(folder.rglob("*.jpg"))


@pytest.mark.parametrize("size_px", [32, 70, 128, 224])
def test_reduced_decoding_is_close_to_the_plain_way(photographs: list[Path], size_px: int) -> None:
    for path in photographs:
        found, plain = load_image(path, size_px), load_image(path, size_px, reduced=False)
        assert (
            np.array_equal(found, plain) if size_px == 224 else 45 < decibels(found, plain) < np.inf
        )


@pytest.mark.parametrize("shape", [(201, 300), (163, 171), (1000, 167)])
def test_a_side_that_the_scale_does_not_divide_is_not_shifted(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    path = stored(tmp_path, encoded(smooth(*shape), "JPEG", quality=95))
    assert _decode_rgb(path, 10**8, sufficient_px(16)).size == (
        -(-shape[1] // 4),
        -(-shape[0] // 4),
    )
    difference = load_image(path, 16).astype(int) - load_image(path, 16, reduced=False)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("orientation", sorted(SIDES))
def test_a_reduced_jpeg_and_a_png_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = smooth(203, 300)
    turned, exif = as_stored(upright, orientation), exif_orientation(orientation)
    expected = load_image(stored(tmp_path, encoded(upright, "PNG"), "upright"), 16).astype(int)
    jpeg = stored(tmp_path, encoded(turned, "JPEG", exif=exif, quality=95), "jpeg")
    png = stored(tmp_path, encoded(turned, "PNG", exif=exif), "png")
    for reduced in (True, False):
        assert np.abs(load_image(jpeg, 16, reduced=reduced) - expected).max() <= 2
        assert np.abs(load_image(png, 16, reduced=reduced) - expected).max() <= 1


def test_reduced_gray_cmyk_and_two_pictures_keep_their_colours(tmp_path: Path) -> None:
    ink = Image.new("CMYK", (160, 160), (0, 0, 0, 0))
    ink.paste((0, 0, 0, 255), (80, 0, 160, 160))
    ink.save(tmp_path / "cmyk", "JPEG", quality=95)
    Image.fromarray(smooth(160, 160)).convert("L").save(tmp_path / "gray", "JPEG", quality=95)
    views = [Image.fromarray(smooth(160, 160)), Image.fromarray(picture(8, 8))]
    views[0].save(tmp_path / "two", "MPO", save_all=True, append_images=views[1:], quality=95)
    for name in ("cmyk", "gray", "two"):
        assert _decode_rgb(tmp_path / name, 10**8, sufficient_px(8)).size == (20, 20)
        difference = load_image(tmp_path / name, 8).astype(int) - load_image(
            tmp_path / name, 8, reduced=False
        )
        assert np.abs(difference).max() <= 2
    assert (
        load_image(tmp_path / "cmyk", 8)[:, :3].min() > 250
        and load_image(tmp_path / "cmyk", 8)[:, 5:].max() < 5
    )


def lossless_jpeg(gray: np.ndarray) -> bytes:
    """By hand after ITU T.81, annex H: each pixel as its difference from the left one (in the first column: from the upper)."""

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 255, marker, len(data) + 2) + data

    before = np.pad(gray.astype(int), ((0, 0), (1, 0)))[:, :-1]
    before[:, 0] = np.concatenate([[128], gray[:-1, 0]])
    bits = ""
    for difference in (gray - before).ravel().tolist():
        size = abs(difference).bit_length()
        bits += f"{size:04b}" + (
            f"{difference if difference > 0 else difference + 2**size - 1:0{size}b}" if size else ""
        )
    bits += "1" * (-len(bits) % 8)
    scan = bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8)).replace(
        b"\xff", b"\xff\0"
    )
    frame = segment(0xC3, struct.pack(">BHHB", 8, *gray.shape, 1) + b"\1\x11\0")
    sizes = segment(
        0xC4, bytes([0, 0, 0, 0, 9, *[0] * 12, *range(9)])
    )  # the code of each size: itself, in four bits
    return b"\xff\xd8" + frame + sizes + segment(0xDA, b"\1\1\0\1\0\0") + scan + b"\xff\xd9"


def test_a_lossless_jpeg_has_no_smaller_scale_and_is_decoded_whole(tmp_path: Path) -> None:
    path = stored(tmp_path, lossless_jpeg(smooth(64, 96)[..., 0]))
    np.testing.assert_array_equal(decode_image(path), smooth(64, 96))
    np.testing.assert_array_equal(load_image(path, 8), load_image(path, 8, reduced=False))
    assert len(check_images(image_list([path]))) == 1


def outcome(path: Path, reduced: bool) -> str:
    try:
        load_image(path, 8, max_pixels=100_000, reduced=reduced)
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
def test_reduced_decoding_refuses_the_cut_files_that_the_plain_way_refuses(
    tmp_path: Path, kind: str, padded: bool, share: float
) -> None:
    whole = LARGE[kind]
    kept = int(share * len(whole))
    path = stored(tmp_path, whole[:kept] + bytes(len(whole) - kept) * padded)
    assert outcome(path, True) == outcome(path, False)
    assert outcome(path, True) or share > 0.95


@pytest.mark.parametrize("kind", sorted(LARGE))
@FEW
@given(data=st.data())
def test_reduced_decoding_refuses_the_damaged_files_that_the_plain_way_refuses(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    content = bytearray(LARGE[kind])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[position] = data.draw(st.integers(0, 255))
    path = stored(tmp_path, bytes(content))
    assert outcome(path, True) == outcome(path, False)


def test_the_limit_of_pixels_is_the_whole_file_s(tmp_path: Path) -> None:
    path = stored(tmp_path, LARGE["jpeg"])
    assert load_image(path, 8, max_pixels=96 * 128).shape == (8, 8, 3)
    with pytest.raises(ImageError, match="128 x 96 pixels, over the limit of 12,287"):
        load_image(path, 8, max_pixels=96 * 128 - 1)


def image_list(paths: list[Path], **columns: object) -> ImageList:
    return ImageList(
        np.array([f"id{row}" for row in range(len(paths))]),
        np.array([str(path) for path in paths]),
        **columns,
    )


def test_check_images_sorts_out_the_bad_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    large = encoded(np.kron(picture(), np.ones((20, 20, 1), np.uint8)), "JPEG")
    paths = [
        stored(tmp_path, large, "good.jpg"),
        stored(tmp_path, large[: len(large) // 2], "half.jpg"),
        stored(tmp_path, large[:-20], "nearly.jpg"),
        stored(tmp_path, WHOLE["png"], "good.png"),
        stored(tmp_path, b"", "zero.png"),
        tmp_path / "gone.jpg",
    ]
    images = image_list(
        paths, labels=np.arange(6), groups=np.array(list("abcdef")), skipped=(("before", "why"),)
    )
    checked = check_images(images)
    assert (
        checked.ids.tolist() == ["id0", "id3"]
        and checked.labels.tolist() == [0, 3]
        and checked.groups.tolist() == ["a", "d"]
    )
    reasons = ["truncated", "truncated", "empty file", "file not found"]
    assert checked.skipped == (
        ("before", "why"),
        *zip(map(str, (paths[1], paths[2], paths[4], paths[5])), reasons, strict=True),
    )
    assert capsys.readouterr().err == ""


def test_check_images_decodes_a_jpeg_at_an_eighth(tmp_path: Path) -> None:
    path = stored(tmp_path, encoded(picture(320, 640), "JPEG"))
    assert _decode_rgb(path, 10**8, at_least_px=32).size == (80, 40)
    assert _decode_rgb(path, 10**8).size == (640, 320)


def test_a_jpeg_of_two_pictures_and_one_with_a_tail_are_whole(tmp_path: Path) -> None:
    two = io.BytesIO()
    Image.fromarray(picture()).save(
        two, "MPO", save_all=True, append_images=[Image.fromarray(picture(8, 8))]
    )
    with Image.open(two) as image:
        assert (image.format, image.n_frames) == ("MPO", 2)
    whole = decode_image(stored(tmp_path, WHOLE["jpeg"]))
    for content in (two.getvalue(), WHOLE["jpeg"] + b"a phone's own trailer"):
        np.testing.assert_array_equal(decode_image(stored(tmp_path, content, "more.jpg")), whole)


@pytest.mark.parametrize("name", ["jpeg", "progressive"])
@FEW
@given(share=st.floats(0, 0.95))
def test_the_cheap_check_finds_every_cut_that_full_decoding_finds(
    tmp_path: Path, name: str, share: float
) -> None:
    content = encoded(picture(64, 128), "JPEG", progressive=name == "progressive")
    path = stored(tmp_path, content[: int(share * len(content))])
    with pytest.raises(ImageError):
        decode_image(path)
    assert len(check_images(image_list([path]))) == 0


def test_check_images_of_nothing() -> None:
    assert len(check_images(image_list([]))) == 0


@pytest.mark.parametrize(
    ("is_terminal", "number", "shown"), [(True, 200, True), (True, 199, False), (False, 200, False)]
)
def test_progress_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, number: int, shown: bool
) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    check_images(
        image_list([stored(tmp_path, WHOLE["png"])] * number), description="looking at photographs"
    )
    assert ("looking at photographs" in screen.getvalue()) == shown
