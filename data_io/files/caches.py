"""Find a folder for caches: the user's own, or a temporary one if that cannot be written."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path

from data_io.files.names import shown
from data_io.files.output_files import expanded


def cache_folder() -> Path:
    """Return the folder in MANDOO_CACHE, otherwise the user's cache folder.

    If it cannot be written, a temporary folder takes its place, and a line on stderr says so.
    """
    named = os.environ.get("MANDOO_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _writable_cache(named or os.path.join(base, "mandoo"))


@functools.cache
def _writable_cache(wanted: str) -> Path:
    try:
        folder = expanded(wanted)
        reason = write_error(folder)
    except ValueError as error:
        reason = str(error)
    if not reason:
        return folder
    temporary = _temporary_cache()
    print(
        f"cache {shown(wanted)} cannot be written ({reason}): {temporary} is used instead. "
        "Name a folder with MANDOO_CACHE to keep the cache.",
        file=sys.stderr,
    )
    return temporary


def write_error(folder: Path) -> str:
    """Return why no file can be made in a folder, or in the nearest one above it; "" if it can."""
    while not os.path.lexists(folder):
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(prefix=".mandoo-", dir=folder):
            return ""
    except OSError as error:
        return f"{shown(folder)}: {(error.strerror or str(error)).lower()}"


def _temporary_cache() -> Path:
    """Return the user's folder in the temporary folder, or a new one if another user has it."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"mandoo-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    is_own = not folder.is_symlink() and folder.stat().st_uid == user
    return folder if is_own else Path(tempfile.mkdtemp(prefix="mandoo-"))
