"""Recognise image files by their content, so that links and copies of a file count as one image."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

READ_BYTES = 1 << 20
NUM_THREADS = 2
# A file that was written so recently may be written again without a new time stamp.
SETTLED_S = 2.0

_FileState = tuple[int, int, int, int, int]
# Digest of each file that this process has read. An entry takes about 300 bytes.
_KNOWN: dict[_FileState, str] = {}


def content_digest(path: str | Path) -> str:
    """Return 32 hex digits of SHA-256 over a file's bytes, "" if the file cannot be read.

    A process reads a file only once, under whatever path, as long as the file is not changed.

    Args:
        path: the file.

    Returns:
        The digest.
    """
    status = _status(path)
    if status is None:
        return ""
    state = _state(status)
    if state in _KNOWN:
        return _KNOWN[state]
    digest = hashlib.sha256()
    try:
        with open(path, "rb", buffering=0) as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
    except OSError:
        return ""
    text = digest.hexdigest()[:32]
    if status.st_ino and abs(time.time() - status.st_mtime) > SETTLED_S:
        _KNOWN[state] = text
    return text


def _status(path: str | Path) -> os.stat_result | None:
    """Return the status of a regular file; None if there is no such file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    # Opening a pipe would wait for ever.
    return status if stat.S_ISREG(status.st_mode) else None


def _state(status: os.stat_result) -> _FileState:
    """Return numbers that identify a file and change when it is written."""
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_dev, status.st_ino, status.st_size, *times)


def contents_of(paths: Sequence[str]) -> list[str]:
    """Return the digest of each file's content; show a progress bar on a terminal.

    Args:
        paths: the files.

    Returns:
        One digest per file, in order; "" for a file that cannot be read.
    """
    known = [_known_digest(path) for path in paths]
    new = [path for path, digest in zip(paths, known, strict=True) if digest is None]
    if not new:
        return [digest or "" for digest in known]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        digests = pool.map(content_digest, new)
        read = iter(tqdm(digests, "reading", len(new), leave=False, unit="image", disable=None))
        return [next(read) if digest is None else digest for digest in known]


def _known_digest(path: str) -> str | None:
    """Return the digest of a file that this process has read; None if it has to be read."""
    status = _status(path)
    return "" if status is None else _KNOWN.get(_state(status))


def same_files(paths: Sequence[str]) -> list[str]:
    """Return a key for each path; paths of one file, through links too, have one key.

    Args:
        paths: the files; they need not exist.

    Returns:
        Device and inode; the real path of a file that does not exist or has no inode.
    """
    return [_file_key(path, _status(path)) for path in paths]


def same_images(paths: Sequence[str]) -> list[str]:
    """Return a key for each path; paths of one file and of copies of it have one key.

    Only files of equal size are read, because others cannot be copies.

    Args:
        paths: the files; they need not exist.

    Returns:
        The digest of the content if another file has the same size; else the key of `same_files`.
    """
    statuses = [_status(path) for path in paths]
    keys = [_file_key(path, status) for path, status in zip(paths, statuses, strict=True)]
    size_of = {
        key: status.st_size
        for key, status in zip(keys, statuses, strict=True)
        # An empty file is not an image.
        if status is not None and status.st_size
    }
    num_files = Counter(size_of.values())
    path_of = {
        key: path
        for key, path in zip(keys, paths, strict=True)
        if num_files[size_of.get(key, 0)] > 1
    }
    contents = dict(zip(path_of, contents_of(list(path_of.values())), strict=True))
    return [contents.get(key) or key for key in keys]


def _file_key(path: str, status: os.stat_result | None) -> str:
    if status is None or not status.st_ino:
        return os.path.realpath(path)
    return f"{status.st_dev}:{status.st_ino}"
