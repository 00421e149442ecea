"""Copy the code of a session, so that later edits do not change what runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from delf_ext.nsml import store

# Files of this size or more are probably weights or data, and are linked instead of copied.
LINK_BYTES = 8 * 2**20
# Limit of the files to copy, together.
MOST_BYTES = 2 * 2**30
IGNORE_FILE = ".nsmlignore"
# Many projects contain such a stub to run without the platform. It would hide our module `nsml`.
STUBS = (Path("nsml"), Path("nsml.py"))


def code_files(folder: Path, entry: str) -> list[Path]:
    """List the files to copy for a session.

    Left out are hidden files, compiled Python, virtual environments, folders named `runs` (unless
    they are packages), STUBS, the store, and files that match a line of .nsmlignore: a pattern of
    a file name or of a path relative to `folder`. Links are followed, except to a folder that
    contains them.

    Args:
        folder: folder of the code.
        entry: a file in `folder`, or a folder with a __main__.py.

    Returns:
        Paths relative to `folder`.

    Raises:
        ValueError: The entry is missing or left out, `folder` is the store, or the files to copy
            are larger than MOST_BYTES.
    """
    if folder.resolve() == store.home().resolve():
        raise ValueError(
            f"{folder} is MANDOO_HOME, which holds data sets and sessions: "
            "keep your code in another folder."
        )
    main = Path(entry, "__main__.py") if (folder / entry).is_dir() else Path(entry)
    if not (folder / main).is_file():
        raise ValueError(
            f"{folder / main}: no such entry file; run `nsml run` in the folder of your code, "
            "with -e ENTRY."
        )
    files = []
    num_bytes = 0
    for path in _walk(folder, Path(), _patterns(folder / IGNORE_FILE), ()):
        files.append(path)
        size = (folder / path).stat().st_size
        num_bytes += size if size < LINK_BYTES else 0
        if num_bytes > MOST_BYTES:
            raise ValueError(
                f"{folder}: more than {MOST_BYTES / 2**30:g} GB of files to copy; write patterns "
                f"of files that the session does not need to {folder / IGNORE_FILE}, one per line."
            )
    if main not in files:
        raise ValueError(
            f"entry {entry!r} must be a file in {folder} that is neither hidden nor listed in "
            f"{IGNORE_FILE}."
        )
    return files


def copy_code(folder: Path, files: list[Path], out: Path) -> None:
    """Copy files to a new folder; hard-link those of LINK_BYTES or more if the disk allows it.

    A linked file that is changed in place changes in both folders.

    Args:
        folder: folder of the code.
        files: paths relative to `folder`.
        out: folder to create.
    """
    out.mkdir(parents=True)
    for path in files:
        source = (folder / path).resolve()
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.stat().st_size >= LINK_BYTES:
            try:
                os.link(source, target)
                continue
            except OSError:
                # The target is on another disk, or the file system has no links.
                pass
        shutil.copy2(source, target)


def _patterns(path: Path) -> list[str]:
    """Return the patterns of files to leave out: hidden ones, and those of .nsmlignore."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    own = [line.strip().rstrip("/") for line in lines if not line.startswith("#")]
    return [".*", "*.pyc", *own]


def _walk(root: Path, below: Path, patterns: list[str], above: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the files of `root / below`, relative to `root`; `above` are its real parents."""
    # A link to one of these folders would lead to an endless loop.
    above = (*above, (root / below).resolve())
    for path in sorted((root / below).iterdir()):
        relative = below / path.name
        names = (path.name, str(relative))
        is_ignored = any(fnmatch(name, pattern) for name in names for pattern in patterns)
        if is_ignored or relative in STUBS:
            continue
        if path.is_file():
            yield relative
        elif path.is_dir() and not _has_no_code(path) and path.resolve() not in above:
            yield from _walk(root, relative, patterns, above)


def _has_no_code(folder: Path) -> bool:
    is_environment = (folder / "pyvenv.cfg").exists()
    is_package = (folder / "__init__.py").exists()
    holds_runs = folder.name == "runs" and not is_package
    return holds_runs or is_environment or folder.resolve() == store.home().resolve()
