"""Find the image files below a folder: sorted, links followed, system files left out."""

from __future__ import annotations

import os
from pathlib import Path

from data_io.decoding.image_kinds import reason_not_image
from data_io.files.system_files import FOLDER_MARK, is_system_file, is_thumbnail_folder


def image_files(folder: Path, skipped: list[tuple[str, str]]) -> list[Path]:
    """List the image files below a folder.

    These files are "seen": those with the ending of an image, opened or not, and those that begin
    like an image, whatever their ending. Files with other well-known endings (README.txt) are not
    meant as images and do not count. What is neither is listed as skipped.

    Links to folders are followed, but no folder is read twice, so a loop ends.

    Args:
        folder: the folder.
        skipped: (path, reason) of each file that is no image, and of each folder that is not read
            or has no image, is added to this list. The path of a folder ends in a slash.

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
            skipped.append((_shown_folder(current), "link to a folder that is read already"))
            continue
        seen.add(os.path.realpath(current))
        try:
            entries = visible_entries(current)
        except OSError as error:
            skipped.append((_shown_folder(current), f"cannot be read: {error.strerror}"))
            continue
        useful = [entry for entry in entries if _is_folder(entry) or _is_image(entry, skipped)]
        if not useful and current != folder:
            skipped.append((_shown_folder(current), "empty class"))
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
            skipped.append((_shown(entry), "hidden: its name begins with a dot"))
        elif has_photographs and _is_folder(entry) and is_thumbnail_folder(entry.name):
            skipped.append((_shown(entry), "thumbnails of the photographs beside it"))
        else:
            kept.append(entry)
    return kept


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link to itself makes entry.is_dir() raise an error.
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_image(entry: os.DirEntry[str], skipped: list[tuple[str, str]]) -> bool:
    reason = reason_not_image(entry.path)
    if reason:
        skipped.append((entry.path, reason))
    return reason == ""


def _shown(entry: os.DirEntry[str]) -> str:
    return _shown_folder(entry.path) if _is_folder(entry) else entry.path


def _shown_folder(folder: str | Path) -> str:
    # The slash keeps folders out of the number of skipped files.
    return f"{folder}/"


def _is_hidden(entry: os.DirEntry[str]) -> bool:
    if is_system_file(entry.name):
        return True
    return _is_folder(entry) and os.path.isfile(os.path.join(entry.path, FOLDER_MARK))


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder by name, without system files and our own results."""
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not _is_hidden(entry)]
    return sorted(visible, key=lambda entry: entry.name)
