from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image, features

from data_io.datasets import load_dataset
from data_io.decoding.image_kinds import image_kind, reason_not_image
from data_io.files.folders import image_files

JPEG = b"\xff\xd8\xff\xe0"
ENDINGS = (".jpg", ".jfif", ".jpe", ".pjpeg", ".mpo", ".heic")


def encoded(file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "PPM", "ICO", "AVIF"]
)
def test_first_bytes_tell_the_kind(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    assert image_kind(encoded(kind)[:256]) == kind


def test_first_bytes_of_less_usual_variants() -> None:
    assert image_kind(encoded("MPO")) == "JPEG"
    assert image_kind(encoded("TIFF", big_tiff=True)) == "TIFF"
    assert image_kind(encoded("JPEG2000", no_jp2=True)) == "JPEG2000"


def media(main: bytes, *compatible: bytes) -> bytes:
    box = b"ftyp" + main + bytes(4) + b"".join(compatible)
    return (len(box) + 4).to_bytes(4, "big") + box + b"\0\0\0\x08free"


# Brands as Apple, Samsung and libavif write them; a video and a Canon raw file have the same box.
@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (media(b"heic", b"mif1", b"heic"), "HEIF"),
        (media(b"mif1", b"heic", b"miaf"), "HEIF"),
        (media(b"msf1", b"hevc", b"iso8"), "HEIF"),
        (media(b"avif", b"mif1", b"miaf"), "AVIF"),
        (media(b"mif1", b"avif", b"miaf"), "AVIF"),
        (media(b"isom", b"iso2", b"avc1", b"mp41"), None),
        (media(b"crx ", b"crx ", b"isom"), None),
        (b"BMW, Audi and other cars in a text", None),
        (b"P.S. a text", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"<!DOCTYPE html>", None),
        (b"", None),
    ],
)
def test_brands_and_texts(head: bytes, kind: str | None) -> None:
    assert image_kind(head) == kind


def test_content_decides_where_the_ending_does_not(tmp_path: Path) -> None:
    for ending in (*ENDINGS, ".JPG", ".jpg_large", ".jpg!400x400", ""):
        (tmp_path / f"photo{ending}").write_bytes(JPEG)
        assert reason_not_image(tmp_path / f"photo{ending}") == ""


def test_other_files_are_listed_unless_their_ending_is_well_known(tmp_path: Path) -> None:
    for name in ("README.txt", "README", "labels.csv", "clip.mp4", "weights.npz"):
        (tmp_path / name).write_bytes(JPEG)
        assert reason_not_image(tmp_path / name) is None
    for name in ("0001", "photo.xyz", "empty"):
        (tmp_path / name).write_bytes(b"" if name == "empty" else b"text")
        assert reason_not_image(tmp_path / name) == "not an image, by its first bytes"
    # A file that is named as an image is decoded, which gives the exact reason.
    (tmp_path / "text.jpg").write_text("text")
    assert reason_not_image(tmp_path / "text.jpg") == ""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    reason = "cannot be read: Too many levels of symbolic links"
    assert reason_not_image(tmp_path / "loop") == reason


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert reason_not_image(tmp_path / "pipe") == "is not a regular file"


def test_every_file_of_a_folder_is_listed_skipped_or_known_to_be_no_image(tmp_path: Path) -> None:
    folder = tmp_path / "class"
    folder.mkdir()
    for number, ending in enumerate(ENDINGS):
        (folder / f"{number}{ending}").write_bytes(JPEG)
    (folder / "6").write_bytes(JPEG)
    (folder / "7").write_text("text")
    (folder / "README.txt").write_text("text")
    skipped: list[tuple[str, str]] = []
    names = [path.name for path in image_files(tmp_path, skipped)]
    assert names == ["0.jpg", "1.jfif", "2.jpe", "3.pjpeg", "4.mpo", "5.heic", "6"]
    assert skipped == [(str(folder / "7"), "not an image, by its first bytes")]
    data = load_dataset(tmp_path)
    assert (len(data.train), data.skipped) == (7, tuple(skipped))
