"""The code of a session: a copy of the folder that `nsml run` was called in, so that editing on does not change what runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from delf_ext.nsml import store

LINK_BYTES = 8 * 2**20  # from here on a file is taken for weights or data, and linked
MOST_BYTES = 2 * 2**30  # of files that are copied
IGNORE_FILE = ".nsmlignore"
STUBS = (
    "nsml",
    "nsml.py",
)  # many projects carry one, to run without the platform; it would hide ours


def code_files(folder: Path, entry: str) -> list[Path]:
    """The files of a snapshot, relative to `folder`, which must hold the entry.

    The entry is a file, or a folder with a __main__.py. Left out: what is hidden, compiled Python, virtual environments, folders
    named `runs`, STUBS, the store itself, and what the lines of .nsmlignore match (patterns of file names, or of paths from
    here). Links are followed, but not into a folder they lie in.

    Raises: ValueError when the entry is missing or left out, the folder is the store, or more than MOST_BYTES would be copied.
    """
    if folder.resolve() == store.home().resolve():
        raise ValueError(
            f"{folder} is MANDOO_HOME, where data sets and sessions lie: keep your code in a folder of its own."
        )
    main = Path(entry, "__main__.py") if (folder / entry).is_dir() else Path(entry)
    if not (folder / main).is_file():
        raise ValueError(
            f"{folder / main}: no such entry file; call `nsml run` in the folder of your code, with -e ENTRY."
        )
    found, num_bytes = [], 0
    for path in _walk(folder, folder, _patterns(folder / IGNORE_FILE), ()):
        found.append(path.relative_to(folder))
        size = path.stat().st_size
        num_bytes += size if size < LINK_BYTES else 0
        if num_bytes > MOST_BYTES:
            raise ValueError(
                f"{folder}: more than {MOST_BYTES / 2**30:g} GB of files to copy; "
                f"name those that the session does not need in {folder / IGNORE_FILE}, one pattern a line."
            )
    if main not in found:
        raise ValueError(
            f"entry {entry!r} must be a file below {folder} that is neither hidden nor named in {IGNORE_FILE}."
        )
    return found


def copy_code(folder: Path, files: list[Path], out: Path) -> None:
    """Copies; files of LINK_BYTES and more become hard links where the disk allows: written to in place, they change in both."""
    out.mkdir(parents=True)
    for path in files:
        source, target = (folder / path).resolve(), out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.stat().st_size >= LINK_BYTES:
            try:
                os.link(source, target)
                continue
            except OSError:  # another disk, or one without links
                pass
        shutil.copy2(source, target)


def _patterns(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#")]


def _walk(root: Path, folder: Path, patterns: list[str], above: tuple[Path, ...]) -> Iterator[Path]:
    """above: the real paths of the folders around it, in which a link would run in circles."""
    above = (*above, folder.resolve())
    for path in sorted(folder.iterdir()):
        relative = path.relative_to(root).as_posix()
        if (
            path.name.startswith(".")
            or relative in STUBS
            or any(
                fnmatch(path.name, pattern) or fnmatch(relative, pattern) for pattern in patterns
            )
        ):
            continue
        if path.is_file():
            if path.suffix != ".pyc":
                yield path
        elif path.is_dir() and not _is_left_out(path) and path.resolve() not in above:
            yield from _walk(root, path, patterns, above)


def _is_left_out(folder: Path) -> bool:
    is_environment = (folder / "pyvenv.cfg").exists()
    holds_runs = (
        folder.name == "runs" and not (folder / "__init__.py").exists()
    )  # else it is a package of that name
    return holds_runs or is_environment or folder.resolve() == store.home().resolve()
