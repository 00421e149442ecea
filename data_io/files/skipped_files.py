"""Count the files that were left out: files seen less files used."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data_io.files.names import shown
from data_io.messages import shown_path
from data_io.progress import Log

Entries = Sequence[tuple[str, str]]
NUM_FOLDERS_NAMED = 3
NO_PATH = "no path"
"""Reason for a row of a table without a path."""


class Skipped(NamedTuple):
    """What was left out of some lists of images.

    A file is seen if a reader listed it (see `folders.image_files`), or if a table names it; under
    whatever spelling of its path, it is one file. It is used if it is in one of the lists.

    Attributes:
        files: (path, reason) of each file that was seen but not used, once.
        folders: (path, reason) of each folder that was not read or has no image.
        num_seen: number of files seen.
    """

    files: tuple[tuple[str, str], ...]
    folders: tuple[tuple[str, str], ...]
    num_seen: int

    @property
    def num_used(self) -> int:
        """Number of files used."""
        return self.num_seen - len(self.files)


def count_skipped(skipped: Entries, used_paths: Iterable[str]) -> Skipped:
    """Sort out what was skipped.

    Args:
        skipped: (path, reason) as lists of images keep them; the path of a folder ends in a slash,
            and a row of a table that repeats a file has the path of that file.
        used_paths: of the images in the lists.

    Returns:
        Files and folders that were left out.

    >>> count_skipped([("b.jpg", "truncated"), ("a.jpg", "line 3: already in line 2")], ["a.jpg"])
    Skipped(files=(('b.jpg', 'truncated'),), folders=(), num_seen=2)
    """
    used = {os.path.abspath(path) for path in used_paths}
    files: dict[str, tuple[str, str]] = {}
    folders: dict[str, tuple[str, str]] = {}
    for path, reason in skipped:
        absolute = os.path.abspath(path)
        if path.endswith("/"):
            folders.setdefault(absolute, (path, reason))
        elif absolute not in used:
            files.setdefault(absolute, (path, reason))
    return Skipped(tuple(files.values()), tuple(folders.values()), len(used) + len(files))


def mostly_skipped(skipped: Entries, used_paths: Iterable[str]) -> str:
    """Return one line if most files of the data, or of some folder, were skipped, else "".

    Args:
        skipped: as in `count_skipped`.
        used_paths: of the images in the lists.

    Returns:
        A line with the numbers, the folders, and the reason that is most frequent.
    """
    used = list(used_paths)
    found = count_skipped(skipped, used)
    # A row without a path, or a name without a folder and a file, belongs to no folder.
    left_out = Counter(
        os.path.dirname(path)
        for path, reason in found.files
        if reason != NO_PATH and (os.path.dirname(path) or os.path.lexists(path))
    )
    kept = Counter(os.path.dirname(path) for path in set(used))
    bad = [folder for folder, number in left_out.items() if number > kept[folder]]
    if not bad:
        return ""
    reason = Counter(reason for _, reason in found.files).most_common(1)[0][0]
    places = [
        f"{shown_path(folder)} ({left_out[folder]} of {left_out[folder] + kept[folder]})"
        for folder in sorted(bad, key=lambda folder: (-left_out[folder], folder))
    ]
    more = len(places) - NUM_FOLDERS_NAMED
    named = ", ".join(places[:NUM_FOLDERS_NAMED]) + (
        f" and {more} more folders" if more > 0 else ""
    )
    return (
        f"warning: {len(found.files)} of {found.num_seen} files were skipped, most of them in "
        f"{named}; the usual reason: {shown(reason)}"
    )


def warn_if_mostly_skipped(skipped: Entries, used_paths: Iterable[str], log: Log) -> None:
    """Log the line of `mostly_skipped`, if there is one; call this last.

    Args:
        skipped: as in `count_skipped`.
        used_paths: of the images in the lists.
        log: called with the line.
    """
    line = mostly_skipped(skipped, used_paths)
    if line:
        log(line)
