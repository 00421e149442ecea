from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.images import decode_image

TYPES = {"u": 1, "i": 2, "f": 3}


def tiff(values: np.ndarray, white_is_zero: bool = False, bits: int | None = None) -> bytes:
    """Write an uncompressed gray TIFF by hand. Source: TIFF 6.0, section 2."""
    order = "<" if values.dtype.byteorder in "<=|" else ">"
    data = values.tobytes()
    height, width = values.shape
    tags = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits or values.dtype.itemsize * 8),
        (259, 3, 1),
        (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(data)),
        (339, 3, TYPES[values.dtype.kind]),
    ]
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data))
    directory = struct.pack(order + "H", len(tags))
    for tag, kind, value in tags:
        number = struct.pack(order + "I", value)
        if kind == 3:
            number = struct.pack(order + "HH", value, 0)
        directory += struct.pack(order + "HHI", tag, kind, 1) + number
    return head + data + directory + bytes(4)


def shown(folder: Path, content: bytes) -> list[int]:
    path = folder / "a.tif"
    path.write_bytes(content)
    pixels = decode_image(path)
    assert (pixels[..., :1] == pixels).all()
    return pixels[0, :, 0].tolist()


SHADES = [0, 1, 51, 128, 255]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize(
    ("kind", "scale"),
    [
        ("u2", 257),
        ("i2", 1),
        ("i4", 1),
        ("u4", 1),
        ("i4", 257),
        ("u4", 257),
        ("u4", 2**24 + 2**16 + 2**8 + 1),
        ("i4", 2**23),
        ("f4", 1 / 255),
        ("f4", 1),
        ("f4", 257),
        ("f4", 1e6),
        ("f8", 1 / 255),
    ],
)
def test_gray_of_every_width_is_shown_alike(
    tmp_path: Path, kind: str, scale: float, order: str, white_is_zero: bool
) -> None:
    shades = 255 - np.array([SHADES]) if white_is_zero else np.array([SHADES])
    values = (shades * scale).astype(order + kind)
    assert shown(tmp_path, tiff(values, white_is_zero)) == SHADES


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Highlights and the ringing of filters are cut off.
        ([-0.1, 0.0, 0.2, 1.0, 1.3], [0, 0, 51, 255, 255]),
        # Normalised to -1..1.
        ([-1.0, -0.6, 0.0, 0.6, 1.0], [0, 51, 128, 204, 255]),
        ([np.nan, -np.inf, np.inf, 0.2, 1.0], [0, 0, 255, 51, 255]),
        ([np.nan, np.nan], [0, 0]),
    ],
)
def test_floats_outside_the_usual_range(
    tmp_path: Path, values: list[float], expected: list[int]
) -> None:
    assert shown(tmp_path, tiff(np.array([values], "<f4"))) == expected


def test_a_constant_image_is_not_stretched(tmp_path: Path) -> None:
    assert shown(tmp_path, tiff(np.full((1, 2), 51, "<i4"))) == [51, 51]
    assert shown(tmp_path, tiff(np.full((1, 2), 10**6, "<i4"))) == [255, 255]
    assert shown(tmp_path, tiff(np.full((1, 2), -5, "<i4"))) == [0, 0]


def test_twelve_bits_fill_the_range(tmp_path: Path) -> None:
    # Two values of 12 bits in three bytes: 0xfff and 0x333.
    content = bytearray(tiff(np.frombuffer(b"\xff\xf3\x33", "u1").reshape(1, 3), bits=12))
    width = content.index(struct.pack("<HHI", 256, 3, 1)) + 8
    content[width : width + 2] = struct.pack("<H", 2)
    assert shown(tmp_path, bytes(content)) == [255, 51]


def test_dark_sixteen_bits_stay_dark(tmp_path: Path) -> None:
    dark = np.array([[0, 16, 255]], np.uint16)
    Image.fromarray(dark).save(tmp_path / "dark.png")
    assert decode_image(tmp_path / "dark.png")[0, :, 0].tolist() == [0, 0, 1]
    (tmp_path / "dark.pgm").write_bytes(b"P5 3 1 65535\n" + dark.astype(">u2").tobytes())
    assert decode_image(tmp_path / "dark.pgm")[0, :, 0].tolist() == [0, 0, 1]


def test_transparent_sixteen_bits_are_white(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = zlib.compress(b"\0" + np.array([0, 257, 65535], ">u2").tobytes())
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, 16, 0, 0, 0, 0))
    parts = (header, chunk(b"tRNS", b"\1\1"), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert decode_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 255, 255]


def test_premultiplied_gray_and_palettes_with_alpha_are_put_on_white(tmp_path: Path) -> None:
    both = Image.new("LA", (2, 1))
    both.putdata([(0, 255), (0, 51)])
    both.save(tmp_path / "la.tif")
    assert decode_image(tmp_path / "la.tif")[0, :, 0].tolist() == [0, 204]
    content = bytearray((tmp_path / "la.tif").read_bytes())
    # ExtraSamples: 1 is premultiplied, 2 is not.
    extra = content.index(struct.pack("<HHI", 338, 3, 1)) + 8
    content[extra] = 1
    (tmp_path / "premultiplied.tif").write_bytes(content)
    assert decode_image(tmp_path / "premultiplied.tif")[0, :, 0].tolist() == [0, 204]
