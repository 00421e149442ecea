"""Leave out chunks of a PNG file that Pillow refuses although the pixels do not need them."""

from __future__ import annotations

import io
import zlib
from typing import IO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Source: PNG specification, third edition, section 11. eXIf holds the orientation.
NEEDED = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"))
# Text that can hold the orientation.
ORIENTATION_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
MAX_TEXT_BYTES = 100_000
_ANCILLARY = 0x20


def needed_chunks(file: IO[bytes]) -> IO[bytes]:
    """Return a PNG file without the chunks that neither hold pixels nor turn them.

    A wrong check sum is an error of a needed chunk only; Pillow reports it.

    Args:
        file: the PNG file.

    Returns:
        The shorter file.
    """
    file.seek(len(SIGNATURE))
    kept = [SIGNATURE]
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        kind = head[4:]
        if kind in NEEDED or (kind in (b"iTXt", b"zTXt", b"tEXt") and length < MAX_TEXT_BYTES):
            chunk = head + file.read(length + 4)
            if _is_useful(kind, chunk):
                kept.append(chunk)
        else:
            file.seek(length + 4, io.SEEK_CUR)
        if kind == b"IEND":
            break
    return io.BytesIO(b"".join(kept))


def _is_useful(kind: bytes, chunk: bytes) -> bool:
    if not kind[0] & _ANCILLARY:
        return True
    data = chunk[8:-4]
    if zlib.crc32(kind + data) != int.from_bytes(chunk[-4:], "big"):
        return False
    if kind in NEEDED:
        return True
    return data.startswith(ORIENTATION_TEXTS) and _is_short(data)


def _is_short(data: bytes) -> bool:
    """Return whether the compressed part of a text chunk, if any, has less than MAX_TEXT_BYTES."""
    start = data.find(b"\x78")
    if start < 0:
        return True
    try:
        return len(zlib.decompressobj().decompress(data[start:], MAX_TEXT_BYTES)) < MAX_TEXT_BYTES
    except zlib.error:
        return True
