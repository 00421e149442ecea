"""Finds the image files below a folder: sorted, links followed, hidden files left out."""

from __future__ import annotations

import os
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


def image_files(folder: Path, skipped: list[tuple[str, str]]) -> list[Path]:
    """Image files below `folder`, sorted; what is not read is added to `skipped` as (path, reason).

    Links to folders are followed, but no folder is read twice, so a loop ends.
    """
    files: list[Path] = []
    seen = {os.path.realpath(ancestor) for ancestor in folder.resolve().parents}
    pending: list[Path] = [folder]
    links: list[Path] = []
    while pending or links:
        current = (
            pending.pop() if pending else links.pop()
        )  # links last: a folder's own place goes before a link to it
        if os.path.realpath(current) in seen:
            skipped.append((str(current), "link to a folder that is read already"))
            continue
        seen.add(os.path.realpath(current))
        try:
            useful = [
                entry for entry in visible_entries(current) if _is_folder(entry) or _is_image(entry)
            ]
        except OSError as error:
            skipped.append((str(current), f"cannot be read: {error.strerror}"))
            continue
        if not useful and current != folder:
            skipped.append((str(current), "empty class"))
        for entry in useful:
            (files if not _is_folder(entry) else links if entry.is_symlink() else pending).append(
                Path(entry.path)
            )
    return sorted(files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return (
        os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
    )  # a link to itself makes is_dir() raise


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, but for hidden files and macOS archive debris, last name first."""
    with os.scandir(folder) as entries:
        shown = [
            entry
            for entry in entries
            if not entry.name.startswith(".") and entry.name != "__MACOSX"
        ]
    return sorted(shown, key=lambda entry: entry.name, reverse=True)  # the walk takes from the end


def cache_folder() -> Path:
    """Return MANDOO_CACHE, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MANDOO_CACHE") or Path(base) / "mandoo")
