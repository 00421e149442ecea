"""Word the lines that tell a user about files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_io.files.names import shown
from data_io.records import ImageList

NUM_SHOWN = 5
"""Number of skipped files that get a line each."""


def shown_path(path: str | Path) -> str:
    """Return a path as users read it: relative to the current folder if it is below, else absolute.

    >>> shown_path(Path.cwd() / "runs" / "first")
    'runs/first'
    >>> shown_path("runs/../../elsewhere") == str(Path.cwd().parent / "elsewhere")
    True
    """
    absolute = Path(os.path.abspath(path))
    current = Path.cwd()
    return shown(absolute.relative_to(current) if absolute.is_relative_to(current) else absolute)


REMEDIES = {
    errno.ENOSPC: "free space on that disk, or pass a path on another one",
    errno.EDQUOT: "your share of that disk is used up: delete files, or pass another path",
    errno.EACCES: "change the permissions, or pass another path",
    errno.EPERM: "change the permissions, or pass another path",
    errno.EROFS: "pass a path on a disk that can be written",
    errno.ENAMETOOLONG: "pass a shorter path",
    errno.EMFILE: "raise the limit with `ulimit -n 4096`",
    errno.ENFILE: "close other programs",
    errno.EIO: "check the disk: it fails to read or write",
    errno.EFBIG: "raise the limit of file sizes (`ulimit -f`), or pass a path on another disk",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EISDIR: "this is a folder: pass the path of a file",
    errno.ELOOP: "a link leads in a circle: pass another path",
}
"""Number of an error of the operating system -> what the user can do."""


def error_line(error: Exception) -> str:
    """Return an error as one line; of the operating system: the file, the reason, the remedy.

    >>> error_line(OSError(errno.ENOSPC, "No space left on device", "x.json"))
    'x.json: no space left on device: free space on that disk, or pass a path on another one'
    """
    if not isinstance(error, OSError) or error.errno is None or error.strerror is None:
        return str(error).strip()
    has_name = isinstance(error.filename, (str, bytes))
    name = f"{shown(os.fsdecode(error.filename))}: " if has_name else ""
    reason = error.strerror[:1].lower() + error.strerror[1:]
    remedy = REMEDIES.get(error.errno)
    return f"{name}{reason}{f': {remedy}' if remedy else ''}"


def skipped_lines(skipped: Sequence[tuple[str, str]], verb: str = "skipped") -> Iterator[str]:
    """Yield a line for each of the first skipped files, and the number of all if there are more.

    Args:
        skipped: (path, reason) of each file.
        verb: what was done with the files, such as "skipped" or "placed last".

    Yields:
        Lines without a line break.
    """
    for path, reason in skipped[:NUM_SHOWN]:
        yield f"{verb} {shown(path)}: {shown(reason)}"
    if len(skipped) > NUM_SHOWN:
        # The path of a folder ends in a slash.
        num_files = sum(not path.endswith("/") for path, _ in skipped)
        num_folders = len(skipped) - num_files
        folders = f" and {num_folders} folders" if num_folders else ""
        yield f"{verb} {num_files} files{folders} in all"


def unlabelled_notes(query: ImageList, gallery: ImageList) -> Iterator[str]:
    """Yield a line that counts the queries without a label, and one for the gallery images.

    Args:
        query: images to search with.
        gallery: images to search in.

    Yields:
        Nothing for a list in which all images have a label, or none has one.
    """
    num_queries = len(query) - len(query.labelled())
    if num_queries:
        yield f"{num_queries} of {len(query)} queries have no label: they are not scored"
    num_distractors = len(gallery) - len(gallery.labelled())
    if num_distractors:
        yield (
            f"{num_distractors} of {len(gallery)} gallery images have no label: "
            "they stay in the rankings and are never right"
        )
