from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.images import ImageError, decode_image, load_image

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="3"/></rdf:RDF></x:xmpmeta>'
)


def chunk(name: bytes, data: bytes, is_damaged: bool = False) -> bytes:
    check = zlib.crc32(name + data) ^ is_damaged
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 4, 8, 2, 0, 0, 0))
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in PIXELS))
    data = chunk(b"IDAT", rows)
    return b"\x89PNG\r\n\x1a\n" + header + before + data + after + chunk(b"IEND", b"")


LARGE = zlib.compress(bytes(3_000_000))
NOT_NEEDED = {
    "large compressed text": chunk(b"zTXt", b"Comment\0\0" + LARGE),
    "large international text": chunk(b"iTXt", b"Comment\0\1\0\0\0" + LARGE),
    "large profile": chunk(b"iCCP", b"profile\0\0" + LARGE),
    "much text": chunk(b"tEXt", b"Comment\0" + b"x" * 900_000) * 80,
    "text with a wrong check sum": chunk(b"tEXt", b"Comment\0text", is_damaged=True),
    "gamma with a wrong check sum": chunk(b"gAMA", struct.pack(">I", 45455), is_damaged=True),
    "a short physical size": chunk(b"pHYs", b"\0"),
    "a short orientation": chunk(b"eXIf", b"\0", is_damaged=True),
    "text that is not compressed": chunk(b"zTXt", b"Comment\0\0no zlib stream"),
    "a profile that is not compressed": chunk(b"iCCP", b"profile\0\0no zlib stream"),
}


@pytest.mark.parametrize("name", sorted(NOT_NEEDED))
@pytest.mark.parametrize("place", ["before", "after"])
def test_chunks_that_hold_no_pixels_cost_no_photograph(
    tmp_path: Path, name: str, place: str
) -> None:
    (tmp_path / "a.png").write_bytes(png(**{place: NOT_NEEDED[name]}))
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png"), PIXELS)
    assert load_image(tmp_path / "a.png", 3).shape == (3, 3, 3)


def test_the_orientation_is_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    large = NOT_NEEDED["large profile"]
    for turned in (
        chunk(b"eXIf", exif.tobytes()[6:]),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
    ):
        for before in (turned, turned + large, large + turned):
            (tmp_path / "a.png").write_bytes(png(before))
            np.testing.assert_array_equal(decode_image(tmp_path / "a.png"), PIXELS[::-1, ::-1])


def test_a_transparent_colour_is_kept(tmp_path: Path) -> None:
    colour = struct.pack(">HHH", *PIXELS[0, 0].tolist())
    (tmp_path / "a.png").write_bytes(png(chunk(b"tRNS", colour) + NOT_NEEDED["large profile"]))
    assert decode_image(tmp_path / "a.png")[0, 0].tolist() == [255, 255, 255]


def test_damaged_pixels_are_refused(tmp_path: Path) -> None:
    for before in (b"", NOT_NEEDED["large profile"]):
        content = bytearray(png(before))
        content[-40] ^= 255
        for bad in (content, content[:-50]):
            (tmp_path / "a.png").write_bytes(bad)
            with pytest.raises(ImageError, match="truncated|damaged"):
                decode_image(tmp_path / "a.png")
