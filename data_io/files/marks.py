"""Mark files and folders that this program wrote, so that it never replaces anything else.

JSON files, NumPy archives, PNG pictures and HDF5 files carry the mark in their content. Beside
other files, a hidden file holds the digest of the content: a file that was edited since does not
count. A folder holds the hidden file `.mandoo`.
"""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from data_io.files.contents import content_digest
from data_io.files.system_files import FOLDER_MARK

MARK = "mandoo"
KEY = "written_by"
OWN_NAMES = (
    FOLDER_MARK,
    "facts.json",
    "recipe.json",
    "config.json",
    "drawn.json",
    "features.parts",
)
"""A folder with one of these was written by this program, or an earlier version of it."""
LOG_ENDINGS = (".log", ".txt", ".out", ".err")
HTML_MARK = f'<meta name="generator" content="{MARK}">'
HTML_START_BYTES = 1000
MAX_JSON_BYTES = 500_000_000


def marked(figures: Any) -> Any:
    """Return JSON data with the mark: in an object, or in each object of a list."""
    if isinstance(figures, list):
        return [marked(entry) for entry in figures]
    return {**figures, KEY: MARK} if isinstance(figures, dict) else figures


def is_ours(path: Path) -> bool:
    """Return whether this program wrote a file and nothing else changed it, or it is empty."""
    with contextlib.suppress(OSError):
        size = path.stat().st_size
        if size == 0 or _sidecar(path).read_text(encoding="ascii").strip() == content_digest(path):
            return True
    try:
        return _is_marked(path)
    # Anything can be in the file of someone else.
    except Exception:
        return False


def mark_beside(path: Path) -> None:
    """Write the hidden file that marks a file whose content cannot carry a mark."""
    target = Path(os.path.realpath(path))
    # Without the mark, the next run only asks before it replaces the file.
    with contextlib.suppress(OSError):
        _sidecar(target).write_text(f"{content_digest(target)}\n", encoding="ascii")


def foreign_entry(folder: Path) -> str | None:
    """Return the name of something in a folder that this program did not write.

    Hidden files and logs do not count: `mandoo ... | tee out/log.txt` makes the folder first.

    Args:
        folder: an existing folder.

    Returns:
        A name; None if the folder is marked or holds nothing else.
    """
    names = sorted(os.listdir(folder))
    if any(name in OWN_NAMES for name in names):
        return None
    others = [name for name in names if name[0] != "." and not name.endswith(LOG_ENDINGS)]
    return others[0] if others else None


def png_mark() -> PngInfo:
    """Return the text chunk that marks a PNG picture."""
    info = PngInfo()
    info.add_text("Software", MARK)
    return info


def mark_folder(folder: Path) -> None:
    """Create a folder if needed, and mark it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FOLDER_MARK).write_text(f"{KEY}: {MARK}\n", encoding="ascii")


def _sidecar(path: Path) -> Path:
    return path.with_name(f".{path.name}.{MARK}")


def _is_marked(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(8).lstrip()
    if start.startswith(b"\x89PNG"):
        with Image.open(path) as picture:
            return picture.info.get("Software") == MARK
    if start.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            return not {f"{KEY}.npy", "record_type.npy"}.isdisjoint(archive.namelist())
    if start.startswith(b"\x89HDF"):
        import h5py

        with h5py.File(path) as file:
            return file.attrs.get(KEY) == MARK
    if start[:1] == b"<":
        return HTML_MARK.encode() in path.read_bytes()[:HTML_START_BYTES]
    if start[:1] in (b"{", b"[") and path.stat().st_size <= MAX_JSON_BYTES:
        value = json.loads(path.read_text(encoding="utf-8"))
        first = value[0] if isinstance(value, list) else value
        return isinstance(first, dict) and first.get(KEY) == MARK
    return False
