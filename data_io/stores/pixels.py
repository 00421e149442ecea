"""Keep decoded, small images on disk for later epochs, one file per image, written atomically."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_io.files.artifacts import atomic_path
from data_io.images import DECODING_VERSION, load_image

CHECKSUM_BYTES = 4


def image_loader(
    size_px: int, pixel_cache: str | Path | None
) -> Callable[[str | Path], np.ndarray]:
    """Return a function that loads an image file.

    Args:
        size_px: side of the square.
        pixel_cache: the folder of a pixel cache; None decodes each time.

    Returns:
        path -> uint8 [size_px, size_px, 3], as `load_image`.
    """
    if pixel_cache:
        return PixelCache(pixel_cache, size_px).load
    return functools.partial(load_image, size_px=size_px)


class PixelCache:
    """Cache of what `load_image` returns: 3 * size_px**2 + 4 bytes per image and size.

    An entry is found by the image's absolute path, length, time of change, size_px and
    DECODING_VERSION, so a changed image is decoded again. A checksum detects entries that a power
    failure damaged. Threads and processes can share a folder. Nothing is ever removed; the user can
    delete the folder at any time.
    """

    def __init__(self, folder: str | Path, size_px: int) -> None:
        """Create the folder.

        Args:
            folder: of the cache.
            size_px: side of the square.

        Raises:
            ValueError: the folder cannot be created.
        """
        self.folder = Path(folder)
        self.size_px = size_px
        self._writes = True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"{folder}: cannot create this folder for the pixel cache: {error.strerror}."
            ) from None

    def statement(self, num_images: int) -> str:
        """Return one line that says how much disk space so many images can take."""
        max_gb = num_images * (3 * self.size_px**2 + CHECKSUM_BYTES) / 1e9
        return (
            f"pixel cache {self.folder}: {num_images:,} images at {self.size_px} px "
            f"take up to {max_gb:.2f} GB"
        )

    def load(self, path: str | Path) -> np.ndarray:
        """Load an image from the cache; decode and store it if it is not there.

        Args:
            path: the image file.

        Returns:
            uint8 [size_px, size_px, 3].

        Raises:
            ImageError: as `load_image`; errors are not cached.
        """
        try:
            entry = self._entry(path)
        except (OSError, ValueError):
            # load_image raises an error that says what is wrong with the path.
            return load_image(path, self.size_px)
        pixels = self._read(entry)
        if pixels is None:
            pixels = load_image(path, self.size_px)
            self._write(entry, pixels)
        return pixels

    def _entry(self, path: str | Path) -> Path:
        status = os.stat(path)
        identity = [
            os.path.abspath(path),
            status.st_size,
            status.st_mtime_ns,
            self.size_px,
            DECODING_VERSION,
        ]
        name = hashlib.sha256(repr(identity).encode(errors="surrogateescape")).hexdigest()[:32]
        return self.folder / name[:2] / f"{name[2:]}.rgb"

    def _read(self, entry: Path) -> np.ndarray | None:
        try:
            content = entry.read_bytes()
        except OSError:
            return None
        pixels = content[CHECKSUM_BYTES:]
        if len(pixels) != 3 * self.size_px**2 or _checksum(pixels) != content[:CHECKSUM_BYTES]:
            return None
        return np.frombuffer(pixels, np.uint8).reshape(self.size_px, self.size_px, 3)

    def _write(self, entry: Path, pixels: np.ndarray) -> None:
        """Write an entry; after an error (a full disk) nothing more is written."""
        if not self._writes:
            return
        try:
            with atomic_path(entry) as temporary:
                temporary.write_bytes(_checksum(pixels.tobytes()) + pixels.tobytes())
        except OSError as error:
            self._writes = False
            print(
                f"pixel cache {self.folder}: no more images are stored: {error.strerror}",
                file=sys.stderr,
                flush=True,
            )


def _checksum(pixels: bytes) -> bytes:
    return zlib.crc32(pixels).to_bytes(CHECKSUM_BYTES, "little")
