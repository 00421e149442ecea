"""Find the image files below a folder: sorted, links followed, hidden files left out."""

from __future__ import annotations

import os
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


def image_files(folder: Path, skipped: list[tuple[str, str]]) -> list[Path]:
    """List the image files below a folder.

    Links to folders are followed, but no folder is read twice, so a loop ends.

    Args:
        folder: the folder.
        skipped: (path, reason) of each folder that is not read is added to this list.

    Returns:
        The files, sorted.
    """
    files: list[Path] = []
    seen = {os.path.realpath(ancestor) for ancestor in folder.resolve().parents}
    folders: list[Path] = [folder]
    links: list[Path] = []
    while folders or links:
        # Links come last, so that a folder is listed by its own path rather than by a link to it.
        current = folders.pop() if folders else links.pop()
        if os.path.realpath(current) in seen:
            skipped.append((str(current), "link to a folder that is read already"))
            continue
        seen.add(os.path.realpath(current))
        try:
            entries = visible_entries(current)
        except OSError as error:
            skipped.append((str(current), f"cannot be read: {error.strerror}"))
            continue
        useful = [entry for entry in entries if _is_folder(entry) or _is_image(entry)]
        if not useful and current != folder:
            skipped.append((str(current), "empty class"))
        # The loop takes folders from the end of the list, so the last name is added first.
        for entry in reversed(useful):
            if not _is_folder(entry):
                files.append(Path(entry.path))
            elif entry.is_symlink():
                links.append(Path(entry.path))
            else:
                folders.append(Path(entry.path))
    return sorted(files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link to itself makes entry.is_dir() raise an error.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder by name, without hidden files and macOS archive leftovers."""
    with os.scandir(folder) as entries:
        visible = [
            entry
            for entry in entries
            if not entry.name.startswith(".") and entry.name != "__MACOSX"
        ]
    return sorted(visible, key=lambda entry: entry.name)


def cache_folder() -> Path:
    """Return the folder in MANDOO_CACHE, otherwise the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MANDOO_CACHE") or Path(base) / "mandoo")
