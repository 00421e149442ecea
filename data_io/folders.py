"""Find the image files below a folder: sorted, links followed, system files left out."""

from __future__ import annotations

import os
from pathlib import Path

from data_io.system_files import is_system_file, is_thumbnail_folder

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
        useful = _without_copies(useful, skipped)
        # The loop takes folders from the end of the list, so the last name is added first.
        for entry in reversed(useful):
            if not _is_folder(entry):
                files.append(Path(entry.path))
            elif entry.is_symlink():
                links.append(Path(entry.path))
            else:
                folders.append(Path(entry.path))
    return sorted(files)


def _without_copies(
    entries: list[os.DirEntry[str]], skipped: list[tuple[str, str]]
) -> list[os.DirEntry[str]]:
    """Leave out hidden entries, and folders of thumbnails beside photographs; list both."""
    has_photographs = any(not _is_folder(entry) for entry in entries)
    kept = []
    for entry in entries:
        if entry.name.startswith("."):
            skipped.append((entry.path, "hidden: its name begins with a dot"))
        elif has_photographs and _is_folder(entry) and is_thumbnail_folder(entry.name):
            skipped.append((entry.path, "thumbnails of the photographs beside it"))
        else:
            kept.append(entry)
    return kept


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link to itself makes entry.is_dir() raise an error.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder by name, without files of operating and storage systems."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not is_system_file(entry.name)]
    return sorted(visible, key=lambda entry: entry.name)


def cache_folder() -> Path:
    """Return the folder in MANDOO_CACHE, otherwise the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("MANDOO_CACHE") or Path(base) / "mandoo")
