from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from data_io.decoding import image_formats
from data_io.images import ImageError, decode_image, load_image
from data_io.stores.pixels import PixelCache


def half_red() -> Image.Image:
    """Return an image with a red left half and a blue right half."""
    image = Image.new("RGB", (64, 32), "blue")
    image.paste((255, 0, 0), (0, 0, 32, 32))
    return image


def require_red_left(path: Path) -> None:
    for pixels in (decode_image(path), load_image(path, 16)):
        assert pixels[:, 0].mean(0) == pytest.approx([255, 0, 0], abs=6)
        assert pixels[:, -1].mean(0) == pytest.approx([0, 0, 255], abs=6)


@pytest.mark.parametrize("file_format", ["JPEG2000", "PPM", "AVIF"])
def test_formats_of_this_pillow_are_read_under_any_name(tmp_path: Path, file_format: str) -> None:
    if file_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    for name in ("a.jpg", "a"):
        half_red().save(tmp_path / name, file_format)
        require_red_left(tmp_path / name)


def test_icons_and_targa_are_read(tmp_path: Path) -> None:
    half_red().save(tmp_path / "a.jpg", "ICO", sizes=[(32, 32), (64, 32)])
    require_red_left(tmp_path / "a.jpg")
    half_red().save(tmp_path / "a.tga", compression="tga_rle")
    require_red_left(tmp_path / "a.tga")
    (tmp_path / "text.tga").write_text("text")
    with pytest.raises(ImageError, match="a kind of TGA that is not read"):
        decode_image(tmp_path / "text.tga")


def heic(**options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    half_red().save(buffer, "HEIF", **options)
    return buffer.getvalue()


def test_heic_is_read_under_any_name(tmp_path: Path) -> None:
    for name in ("a.heic", "a.jpg", "a"):
        (tmp_path / name).write_bytes(heic())
        require_red_left(tmp_path / name)
    pixels = PixelCache(tmp_path / "cache", 16).load(tmp_path / "a.heic")
    np.testing.assert_array_equal(pixels, load_image(tmp_path / "a.heic", 16))


def test_heic_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    (tmp_path / "a.heic").write_bytes(heic(exif=exif.tobytes()))
    pixels = decode_image(tmp_path / "a.heic")
    assert pixels[:, 0].mean(0) == pytest.approx([0, 0, 255], abs=6)


def test_heic_without_its_reader_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    image_formats._register_heif.cache_clear()
    message = r'a.jpg: HEIC needs pillow-heif: pip install -e "\.\[heic\]" in the clone$'
    with pytest.raises(ImageError, match=message):
        decode_image(tmp_path / "a.jpg")
    image_formats._register_heif.cache_clear()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL, which is not read; save it as JPEG or PNG"),
        (b"8BPS\0\1", "a Photoshop file; save it as JPEG or PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image but an SVG drawing"),
    ],
)
def test_pictures_that_are_not_read_are_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        decode_image(tmp_path / "a.png")
