"""Recognise image files by their first bytes, and the endings that need no look inside."""

from __future__ import annotations

import os
from pathlib import Path

HEAD_BYTES = 256
"""Number of first bytes that `image_kind` needs."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# A file with such an ending is meant as an image. If it is not one, decoding it says why.
IMAGE_ENDINGS = _words(
    ".jpg .jpeg .jpe .jfif .jif .pjpeg .pjp .mpo .png .apng .gif .bmp .dib .webp .tif .tiff "
    ".heic .heif .hif .heics .heifs .avif .avifs .jp2 .j2k .jpf .jpx .jpc .j2c .jxl "
    ".ppm .pgm .pbm .pnm .tga .ico .psd .svg .eps .exr .hdr "
    ".dng .cr2 .cr3 .nef .nrw .arw .orf .rw2 .raf .pef .srw"
)
# A file with such an ending is not meant as an image, and it is not opened.
OTHER_ENDINGS = _words(
    ".txt .md .rst .csv .tsv .json .jsonl .ndjson .xml .yaml .yml .toml .ini .cfg .conf .log "
    ".html .htm .css .js .url .webloc .lnk .pdf .doc .docx .xls .xlsx .ppt .pptx .odt .ods .rtf "
    ".zip .tar .gz .tgz .bz2 .xz .zst .7z .rar .py .pyc .ipynb .sh .bat .m .mat .npy .npz .pkl "
    ".pickle .pt .pth .ckpt .h5 .hdf5 .onnx .tfrecord .parquet .feather .sqlite .db .lock .mp4 "
    ".mov .avi .mkv .webm .m4v .3gp .mp3 .m4a .wav .aac .aae .xmp .thm .md5 .sha1 .sha256 "
    ".torrent .part .crdownload .tmp .bak"
)
# Files without an ending that come with data sets and are text.
OTHER_NAMES = _words("readme license licence copying notice makefile dockerfile authors changelog")
# (kind, position, bytes). Source: the formats' specifications, as collected in file(1).
_SIGNATURES = (
    ("JPEG", 0, b"\xff\xd8\xff"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n"),
    ("GIF", 0, b"GIF87a"),
    ("GIF", 0, b"GIF89a"),
    ("WEBP", 8, b"WEBP"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("TIFF", 0, b"II+\0"),
    ("TIFF", 0, b"MM\0+"),
    ("JPEG2000", 0, b"\0\0\0\x0cjP  \r\n\x87\n"),
    ("JPEG2000", 0, b"\xff\x4f\xff\x51"),
    ("JXL", 0, b"\0\0\0\x0cJXL \r\n\x87\n"),
    ("JXL", 0, b"\xff\x0a"),
    ("PSD", 0, b"8BPS"),
    ("ICO", 0, b"\0\0\1\0"),
)
# The sizes of a BMP's header; its two letters alone could begin a text.
_BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))
_HEIF_BRANDS = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)


def image_kind(head: bytes) -> str | None:
    """Return the kind of an image by its first bytes.

    Args:
        head: the first HEAD_BYTES bytes of the file, or all of a shorter one.

    Returns:
        JPEG, PNG, GIF, BMP, WEBP, TIFF, JPEG2000, PPM, ICO, AVIF or HEIF; of those that are listed
        but cannot be read, JXL or PSD; None if it is none of them.

    >>> image_kind(bytes([0xFF, 0xD8, 0xFF, 0xE0]))
    'JPEG'
    """
    for kind, position, signature in _SIGNATURES:
        if head[position : position + len(signature)] == signature:
            return kind
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in (b" ", b"\t", b"\n", b"\r"):
        return "PPM"
    if head[4:8] == b"ftyp":
        return _kind_of_brands(head)
    return None


def _kind_of_brands(head: bytes) -> str | None:
    """Return AVIF or HEIF by the brands of an ISO media file; None for a video."""
    length = min(int.from_bytes(head[:4], "big"), len(head))
    # The main brand, and from byte 16 the compatible ones.
    brands = [head[8:12], *(head[start : start + 4] for start in range(16, length, 4))]
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    return "HEIF" if _HEIF_BRANDS.intersection(brands) else None


def kind_of_file(path: str | Path) -> str | None:
    """Return `image_kind` of a file.

    Args:
        path: the file.

    Returns:
        The kind, or None.

    Raises:
        OSError: the file cannot be opened.
    """
    with open(path, "rb") as file:
        return image_kind(file.read(HEAD_BYTES))


def reason_not_image(path: str | Path) -> str | None:
    """Say why a file below a folder of photographs is not one of them.

    Known endings decide without a look into the file. Of any other file the first bytes decide.

    Args:
        path: the file.

    Returns:
        "" for an image; None for a file that is not meant as an image, such as README.txt; else the
        reason to list the file as skipped.
    """
    name, ending = os.path.splitext(os.path.basename(path))
    ending = ending.lower()
    if ending in IMAGE_ENDINGS:
        return ""
    if ending in OTHER_ENDINGS or (not ending and name.lower() in OTHER_NAMES):
        return None
    # .gitkeep and its kin.
    if name.startswith("."):
        return None
    # Opening a pipe would wait for ever.
    if os.path.exists(path) and not os.path.isfile(path):
        return "is not a regular file"
    try:
        kind = kind_of_file(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "" if kind else "not an image, by its first bytes"
