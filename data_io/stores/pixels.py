"""Decoded small photographs on disk, for epochs after the first: one file each, written whole or not at all."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_io.artifacts import atomic_path
from data_io.images import DECODING_VERSION, load_image

CHECKSUM_BYTES = 4


def image_loader(
    size_px: int, pixel_cache: str | Path | None
) -> Callable[[str | Path], np.ndarray]:
    """path -> `load_image(path, size_px)`, through the cache in the folder `pixel_cache` if there is one."""
    return (
        PixelCache(pixel_cache, size_px).load
        if pixel_cache
        else functools.partial(load_image, size_px=size_px)
    )


class PixelCache:
    """What `load_image` gives, kept: 3 * size_px**2 bytes (and 4) per photograph and size, never evicted; delete it at will.

    An entry is found by the photograph's absolute path, length and time of change, size_px and DECODING_VERSION: a photograph
    that changed is decoded anew. Its checksum tells one that a power failure damaged. Threads and processes may share a folder.
    Raises: ValueError when the folder cannot be made.
    """

    def __init__(self, folder: str | Path, size_px: int) -> None:
        self.folder, self.size_px, self._writes = Path(folder), size_px, True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{folder}: cannot be the pixel cache: {error.strerror}.") from None

    def statement(self, num_images: int) -> str:
        """One line that says how much disk the cache can take for so many photographs."""
        most_gb = num_images * (3 * self.size_px**2 + CHECKSUM_BYTES) / 1e9
        return f"pixel cache {self.folder}: {num_images:,} photographs at {self.size_px} px take up to {most_gb:.2f} GB"

    def load(self, path: str | Path) -> np.ndarray:
        """uint8 [size_px, size_px, 3]. Raises: ImageError as load_image does; errors are not kept."""
        try:
            entry = self._entry(path)
        except (OSError, ValueError):
            return load_image(path, self.size_px)  # which says what is wrong with the path
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
        side, pixels = self.size_px, content[CHECKSUM_BYTES:]
        if len(pixels) != 3 * side**2 or _checksum(pixels) != content[:CHECKSUM_BYTES]:
            return None
        return np.frombuffer(pixels, np.uint8).reshape(side, side, 3)

    def _write(self, entry: Path, pixels: np.ndarray) -> None:
        """A full disk ends the caching, not the training."""
        if not self._writes:
            return
        try:
            with atomic_path(entry) as temporary:
                temporary.write_bytes(_checksum(pixels.tobytes()) + pixels.tobytes())
        except OSError as error:
            self._writes = False
            print(
                f"pixel cache {self.folder}: nothing more is kept: {error.strerror}",
                file=sys.stderr,
                flush=True,
            )


def _checksum(pixels: bytes) -> bytes:
    return zlib.crc32(pixels).to_bytes(CHECKSUM_BYTES, "little")
