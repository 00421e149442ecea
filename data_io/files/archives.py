"""Unpack a zip archive of photographs into the cache, once for each content."""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import json
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from data_io.files.archive_names import NamedEntry, named_entries, unsafe_reason
from data_io.files.artifacts import one_line
from data_io.files.caches import cache_folder
from data_io.files.system_files import is_system_file

FACTS = "facts.json"
CONTENT = "content"
# Increase it when `unpacked` writes other files, so that archives are unpacked again.
UNPACKING_VERSION = 1
BLOCK_BYTES = 1 << 20
ENCRYPTED_BIT = 1
OTHER_ARCHIVES = {
    b"Rar!": "RAR",
    b"7z\xbc\xaf": "7z",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


# Tables and texts of office programs are zip archives too.
OFFICE_ENTRIES = {"[Content_Types].xml", "mimetype"}


class Unpacked(NamedTuple):
    """An archive that was unpacked.

    Attributes:
        folder: the folder with its content.
        notes: lines for the user about how it was read.
        skipped: (path, reason) of each entry that was left out.
    """

    folder: Path
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


def is_zip(path: Path) -> bool:
    """Return whether a file is a zip archive, by its content.

    Raises:
        ValueError: it is another archive, or a zip archive that is cut off.
    """
    with open(path, "rb") as file:
        start = file.read(512)
    kind = next((kind for magic, kind in OTHER_ARCHIVES.items() if start.startswith(magic)), "")
    if start[257:262] == b"ustar":
        kind = "tar"
    if kind:
        raise ValueError(f"{path}: {kind} archives are not read. Unpack it, and pass the folder.")
    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return False
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path}: the end of this zip archive is missing. Copy it again.")
    with _opened(path) as archive:
        return not OFFICE_ENTRIES & set(archive.namelist())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive. Raises ValueError if its list of entries is damaged."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, EOFError) as error:
        raise ValueError(
            f"{path}: damaged zip archive ({one_line(error)}). Copy it again, or unpack it with "
            "another program and pass the folder."
        ) from None
    with archive:
        yield archive


def unpacked(path: Path) -> Unpacked:
    """Unpack a zip archive into the cache, unless it is there already.

    System files are left out. An entry that would be written outside of the folder, a link, and an
    entry that cannot be read are skipped. If the cache cannot be written, a temporary folder is
    used, which is deleted when the process ends.

    Args:
        path: the archive.

    Returns:
        Its content.

    Raises:
        ValueError: the archive is damaged, or there is too little space.
    """
    place = _writable_folder() / f"zip-{_digest(path)}"
    try:
        if not (place / FACTS).is_file():
            _unpack_atomically(path, place)
        facts = json.loads((place / FACTS).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be unpacked into {place.parent} ({error.strerror or error}). "
            "Free some space, or set MANDOO_CACHE to another folder."
        ) from None
    skipped = tuple((f"{path}/{name}", reason) for name, reason in facts["skipped"])
    return Unpacked(place / CONTENT, tuple(facts["notes"]), skipped)


def _writable_folder() -> Path:
    above = cache_folder() / "unpacked"
    try:
        above.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=above):
            return above
    except OSError:
        temporary = Path(tempfile.mkdtemp(prefix="mandoo-"))
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        return temporary


def _digest(path: Path) -> str:
    """Return 16 hex digits that identify the bytes of an archive and how they are unpacked."""
    digest = hashlib.sha256(str(UNPACKING_VERSION).encode())
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()[:16]


def _unpack_atomically(path: Path, place: Path) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        _unpack(path, temporary)
        temporary.chmod(0o755)
        temporary.rename(place)
    except OSError:
        # Another process may have unpacked it at the same time.
        if not (place / FACTS).is_file():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(path: Path, place: Path) -> None:
    """Write the content of an archive and facts about it."""
    skipped: list[tuple[str, str]] = []
    with _opened(path) as archive:
        entries, notes = named_entries(archive.infolist())
        wanted = list(_wanted(entries, skipped))
        _require_space(path, wanted, place)
        (place / CONTENT).mkdir()
        for entry in wanted:
            reason = _write(archive, entry, place / CONTENT)
            if reason:
                skipped.append((entry.name, reason))
    facts = {"archive": path.name, "notes": notes, "skipped": skipped}
    (place / FACTS).write_text(json.dumps(facts), encoding="utf-8")


def _wanted(entries: Sequence[NamedEntry], skipped: list[tuple[str, str]]) -> Iterator[NamedEntry]:
    """Yield the files to unpack; list those that must not be written."""
    for entry in entries:
        if entry.name.endswith("/") or any(map(is_system_file, entry.name.split("/"))):
            continue
        reason = unsafe_reason(entry.name)
        if entry.info.flag_bits & ENCRYPTED_BIT:
            reason = "encrypted: unpack the archive with its password, and pass the folder"
        elif stat.S_ISLNK(entry.info.external_attr >> 16):
            reason = "a link"
        if reason:
            skipped.append((entry.name, reason))
        else:
            yield entry


def _require_space(path: Path, entries: Sequence[NamedEntry], place: Path) -> None:
    needed = sum(entry.info.file_size for entry in entries)
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ValueError(
            f"{path}: unpacks to {needed / 1e9:.1f} GB, but {place.parent} has {free / 1e9:.1f} GB "
            "free. Set MANDOO_CACHE to a folder on another disk."
        )


def _write(archive: zipfile.ZipFile, entry: NamedEntry, folder: Path) -> str:
    """Write a file; return why it was not written, "" if it was."""
    target = folder / entry.name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as file, archive.open(entry.info) as content:
            shutil.copyfileobj(content, file, BLOCK_BYTES)
    except FileExistsError:
        return "a second file of this name"
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        target.unlink()
        return f"cannot be unpacked: {one_line(error)}"
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EINVAL):
            raise
        return f"its name cannot be written here: {error.strerror}"
    return ""
