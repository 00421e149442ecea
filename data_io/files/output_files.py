"""Write a file atomically, through links, or into a pipe or device; a failure leaves nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# The umask can only be read by changing it, which is not safe while other threads write files.
_UMASK = os.umask(0)
os.umask(_UMASK)
_NAMES_OF_STREAMS = {"-": 1, "/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
_STDOUT = 1
_MAX_LINKS = 40
# The name of a temporary file repeats the start of the name, and must not be too long itself.
_LETTERS_KEPT = 40


def expanded(path: str | Path) -> Path:
    """Return a path with `~` and `~user` replaced by the home folder.

    Raises:
        ValueError: the home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        if os.path.lexists(path):
            return Path(path)
        raise ValueError(f"{path}: no home folder is known for ~. Write the whole path.") from None


def home_path(text: str) -> str:
    """Return a path of the command line with its home folder; a slash at the end stays.

    Raises:
        ValueError: the home folder is not known.
    """
    if not text.startswith("~"):
        return text
    return str(expanded(text)) + ("/" if text.endswith("/") else "")


def stream_number(path: str | Path) -> int | None:
    """Return the number of the open file that a path such as "-" or /dev/stdout means.

    Args:
        path: any path; links are followed.

    Returns:
        The file descriptor; None for any other path.
    """
    name = os.fspath(path)
    for _ in range(_MAX_LINKS):
        matched = re.fullmatch(r"/(?:dev|proc/self|proc/thread-self)/fd/([0-9]+)", name)
        if matched or name in _NAMES_OF_STREAMS:
            return int(matched[1]) if matched else _NAMES_OF_STREAMS[name]
        if not os.path.islink(name):
            return None
        name = os.path.normpath(os.path.join(os.path.dirname(name), os.readlink(name)))
    return None


def is_stdout(path: str | Path) -> bool:
    """Return whether a path means the standard output of this process."""
    return stream_number(path) == _STDOUT


def is_stream(path: str | Path) -> bool:
    """Return whether a path is written to from start to end: "-", a named pipe, /dev/null."""
    if stream_number(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path that replaces `path` when the block ends without an error.

    A link stays: the file that it leads to is replaced. A stream gets the content at the end.

    Args:
        path: the file to write; missing folders are created.

    Yields:
        A path in the same folder. It is deleted if the block raises an error.

    Raises:
        OSError: the file cannot be written; `filename` is `path`, not the temporary one.
    """
    if is_stream(path):
        with _streamed(path) as temporary:
            yield temporary
        return
    target = Path(os.path.realpath(path))
    own = None
    made = []
    try:
        _require_regular(target)
        made = _make_folders(target.parent)
        prefix = f".{target.name[:_LETTERS_KEPT]}."
        handle, name = tempfile.mkstemp(prefix=prefix, dir=target.parent)
        os.close(handle)
        own = temporary = Path(name)
        yield temporary
        # mkstemp makes private files; a result must be as readable as any other file.
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_UMASK
        os.chmod(temporary, mode)
        os.replace(temporary, target)
        made = []
    except OSError as error:
        if error.errno is None or not _is_own(error.filename, target):
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error
    finally:
        if own is not None:
            own.unlink(missing_ok=True)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Add the name of the file to an error of the system that has none.

    Args:
        path: the file that the block reads or writes.

    Yields:
        Nothing.

    Raises:
        OSError: what the block raised, with `filename`.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), os.fspath(path)) from error


def _is_own(name: str | None, target: Path) -> bool:
    """Return whether an error belongs to the file that is written, not to one that is read."""
    if name is None or name == str(target):
        return True
    return os.path.basename(os.fsdecode(name)).startswith(f".{target.name[:_LETTERS_KEPT]}.")


def _require_regular(target: Path) -> None:
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    if target.is_dir():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "is neither a file nor a pipe", str(target))


def _make_folders(folder: Path) -> list[Path]:
    """Create a folder with its parents; return the new ones, the innermost first."""
    missing = []
    for ancestor in (folder, *folder.parents):
        if ancestor.exists():
            break
        missing.append(ancestor)
    folder.mkdir(parents=True, exist_ok=True)
    return missing


@contextlib.contextmanager
def _streamed(path: str | Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mandoo-") as folder:
        temporary = Path(folder) / "content"
        temporary.touch()
        yield temporary
        try:
            with open(temporary, "rb") as content, _open_stream(path) as stream:
                shutil.copyfileobj(content, stream)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _open_stream(path: str | Path) -> BinaryIO:
    number = stream_number(path)
    if number is None:
        return open(path, "wb")
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    return os.fdopen(os.dup(number), "wb")
