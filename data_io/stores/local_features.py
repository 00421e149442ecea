"""Local features on disk: written image by image, safe against being killed, read through a memory map.

A store is a folder. `store.json`: format, dimension, dtype, digest and description of what made it. `features.bin`: one packed
record per feature. `images.jsonl`: one line per image, in order; a line is written once the features it speaks of are on disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from data_io.artifacts import StaleArtifact, read_json, write_json
from data_io.records import ImageKeypoints, LocalFeatures
from data_io.stores.packed_local_features import local_features, packed, record_dtype

FORMAT = 1
COMMIT_IMAGES = 32  # a commit waits for the disk twice
HEAD, INDEX, DATA, LOCK = "store.json", "images.jsonl", "features.bin", ".lock"
HEAD_KEYS = {"format", "dimension", "dtype", "digest", "made_by"}
STORED_KEYS, SKIPPED_KEYS = (
    {"id", "path", "file_bytes", "num_features", "width", "height"},
    {"id", "path", "skipped"},
)


class LocalStoreWriter:
    """Opens a store, or resumes it behind its last whole image; a context manager, and the only writer while it is open.

    dimension: of the descriptors. digest: of what makes them. made_by: JSON data for people to read. dtype: float16, or int8 in
    steps of 1/127. overwrite: start again, whatever the folder held.
    done: id -> path of every image stored. recovered: how many images the index spoke of that were not whole, and cut off.
    Raises, on entering: StaleArtifact when the store was made by another digest or holds another kind of descriptor; ValueError
    when it is damaged, or another writer has it open.
    """

    def __init__(
        self,
        folder: str | Path,
        dimension: int,
        digest: str,
        made_by: dict,
        dtype: str = "float16",
        overwrite: bool = False,
    ) -> None:
        self.folder, self.overwrite = Path(folder), overwrite
        self.head: dict[str, Any] = dict(
            format=FORMAT, dimension=int(dimension), dtype=dtype, digest=digest, made_by=made_by
        )
        self.record = record_dtype(dimension, dtype)
        self.done: dict[str, str] = {}
        self._file_bytes: dict[str, int] = {}
        self.recovered = 0
        self._skipped: dict[str, tuple[str, str]] = {}
        self._blocks: list[bytes] = []
        self._lines: list[bytes] = []

    def __enter__(self) -> LocalStoreWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            _lock(opened.enter_context(open(self.folder / LOCK, "wb")), self.folder)
            if self.overwrite or not (self.folder / HEAD).exists():
                self._create()
            index = self._resume()
            self._data = opened.enter_context(open(self.folder / DATA, "r+b", buffering=0))
            self._index = opened.enter_context(open(self.folder / INDEX, "r+b", buffering=0))
            self._data.truncate(self._data.seek(index.num_rows * self.record.itemsize))
            self._index.truncate(self._index.seek(index.num_bytes))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._opened:
            self.flush()

    def add(self, image_id: str, path: str | Path, features: ImageKeypoints) -> None:
        """Stores one image. Raises: ValueError naming an image that is here already or whose descriptors do not fit."""
        self._refuse_stored(image_id)
        try:
            self._blocks.append(packed(features, self.record).tobytes())
        except ValueError as error:
            raise ValueError(f"{image_id}: {error}") from None
        self.done[image_id], self._file_bytes[image_id] = str(path), _file_bytes(path)
        width, height = features.size_px
        self._write_line(
            id=image_id,
            path=str(path),
            file_bytes=self._file_bytes[image_id],
            num_features=len(features),
            width=width,
            height=height,
        )

    def changed(self, image_id: str, path: str | Path) -> bool:
        """Whether an image that is done was stored from another file: of another path, or replaced by one of another size."""
        return image_id in self.done and (self.done[image_id], self._file_bytes[image_id]) != (
            str(path),
            _file_bytes(path),
        )

    def skip(self, image_id: str, path: str | Path, reason: str) -> None:
        """Notes an image that has no features, and why. It is not `done`: a resumed run may find it mended."""
        self._refuse_stored(image_id)
        if self._skipped.get(image_id) != (str(path), reason):
            self._skipped[image_id] = (str(path), reason)
            self._write_line(id=image_id, path=str(path), skipped=reason)

    def flush(self) -> None:
        """Brings everything so far to the disk: features first, then the lines that speak of them."""
        _append(self._data, self._blocks)
        _append(self._index, self._lines)

    def _refuse_stored(self, image_id: str) -> None:
        if image_id in self.done:
            raise ValueError(f"{image_id}: stored already, from {self.done[image_id]}.")

    def _write_line(self, **entry: object) -> None:
        self._lines.append(json.dumps(entry).encode() + b"\n")
        if len(self._lines) >= COMMIT_IMAGES:
            self.flush()

    def _create(self) -> None:
        """The head last: a folder without one is no store, whatever else lies in it. Readers keep the files that they have."""
        (self.folder / HEAD).unlink(missing_ok=True)
        for name in (INDEX, DATA):
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / name).touch()
        write_json(self.folder / HEAD, self.head)

    def _resume(self) -> _Index:
        head = _read_head(self.folder, self.head["digest"])
        for key in ("dimension", "dtype"):
            if head[key] != self.head[key]:
                raise StaleArtifact(
                    f"{self.folder} holds {key} {head[key]}; now {self.head[key]}. Pass --overwrite."
                )
        index = _read_index(self.folder, self.record)
        self.done = {entry["id"]: entry["path"] for entry in index.stored}
        self._file_bytes = {entry["id"]: entry["file_bytes"] for entry in index.stored}
        self._skipped, self.recovered = index.skipped, index.num_dropped
        return index


def is_store(folder: str | Path) -> bool:
    return (Path(folder) / HEAD).is_file()


def load_local(folder: str | Path, digest: str | None = None) -> LocalFeatures:
    """The store as memory-mapped columns, up to its last whole image; nothing is written, and no feature is read.

    digest: when given, the store's must equal it.
    Raises: ValueError naming the folder when there is no store or it is damaged; StaleArtifact on another digest.
    """
    head = _read_head(folder, digest)
    record = record_dtype(head["dimension"], head["dtype"])
    index = _read_index(folder, record)
    if index.num_rows:  # no map can be empty
        rows: np.ndarray = np.memmap(Path(folder) / DATA, record, "r", shape=(index.num_rows,))
    else:
        rows = np.zeros(0, record)
    try:
        return local_features(
            [entry["id"] for entry in index.stored],
            [entry["num_features"] for entry in index.stored],
            [(entry["width"], entry["height"]) for entry in index.stored],
            rows,
            head["digest"],
        )
    except ValueError as error:
        raise _damaged(folder, str(error)) from None


def skipped_of(folder: str | Path) -> tuple[tuple[str, str], ...]:
    """(path, reason) of every image that has no features here, in order. Raises: as `load_local` does."""
    return tuple(_opened_index(folder).skipped.values())


def paths_of(folder: str | Path) -> dict[str, str]:
    """id -> path of every image that has features here, in order. Raises: as `load_local` does."""
    return {entry["id"]: entry["path"] for entry in _opened_index(folder).stored}


@dataclass(frozen=True)
class _Index:
    """The lines whose features are all there; how far they reach in both files; how many lines were left behind them."""

    stored: list[dict[str, Any]]
    skipped: dict[str, tuple[str, str]]
    num_rows: int
    num_bytes: int
    num_dropped: int


def _opened_index(folder: str | Path) -> _Index:
    head = _read_head(folder, None)
    return _read_index(folder, record_dtype(head["dimension"], head["dtype"]))


def _read_index(folder: str | Path, record: np.dtype) -> _Index:
    """Raises: ValueError when a file is missing, or a line is damaged in front of a whole one: no kill does that."""
    try:
        lines = (Path(folder) / INDEX).read_bytes().splitlines(keepends=True)
        available = _num_whole_rows(Path(folder) / DATA, record.itemsize)
    except FileNotFoundError as error:
        raise _damaged(folder, f"{Path(error.filename).name} is missing") from None
    entries = [_entry(line) for line in lines]
    stored: list[dict[str, Any]] = []
    skipped: dict[str, tuple[str, str]] = {}
    num_rows = num_kept = 0
    for entry in entries:
        if entry is None or num_rows + entry.get("num_features", 0) > available:
            break
        num_kept += 1
        num_rows += entry.get("num_features", 0)
        if "skipped" in entry:
            skipped[entry["id"]] = (entry["path"], entry["skipped"])
        else:
            stored.append(entry)
            skipped.pop(entry["id"], None)  # it has been mended since
    if None in entries and any(entries[entries.index(None) :]):
        raise _damaged(folder, f"line {entries.index(None) + 1} of {INDEX} is not readable")
    return _Index(stored, skipped, num_rows, sum(map(len, lines[:num_kept])), len(lines) - num_kept)


def _entry(line: bytes) -> dict[str, Any] | None:
    """One line of the index; None when it is cut off or otherwise none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = (
        line.endswith(b"\n")
        and isinstance(entry, dict)
        and entry.keys() in (STORED_KEYS, SKIPPED_KEYS)
    )
    return (
        entry
        if whole
        and all(
            type(value) is (str if key in SKIPPED_KEYS else int) for key, value in entry.items()
        )
        else None
    )


def _file_bytes(path: str | Path) -> int:
    """-1 where there is no file (any more)."""
    return os.stat(path).st_size if os.path.exists(path) else -1


def _num_whole_rows(path: Path, row_bytes: int) -> int:
    """Without the zeros that a power cut may leave at the end: no feature is all zeros, its descriptor has unit length."""
    with open(path, "rb") as file:
        count = file.seek(0, os.SEEK_END) // row_bytes
        while count:
            file.seek((count - 1) * row_bytes)
            if any(file.read(row_bytes)):
                break
            count -= 1
    return count


def _read_head(folder: str | Path, digest: str | None) -> dict[str, Any]:
    head = read_json(Path(folder) / HEAD)
    if not isinstance(head, dict) or head.keys() != HEAD_KEYS or head["format"] != FORMAT:
        raise _damaged(folder, f"{HEAD} is not of format {FORMAT}")
    if digest is not None and head["digest"] != digest:
        raise StaleArtifact(
            f"{folder} was made by config {head['digest']}; now {digest}. Pass --overwrite."
        )
    return head


def _damaged(folder: str | Path, what: str) -> ValueError:
    return ValueError(
        f"{folder}: not a whole store of local features ({what}); extract again with --overwrite."
    )


def _lock(file: BinaryIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"{folder}: another run is writing these local features; let it end first."
        ) from None


def _append(file: FileIO, chunks: list[bytes]) -> None:
    """Written and on the disk when it returns; when it fails (a full disk) it can be tried again."""
    start = file.tell()
    pending = memoryview(b"".join(chunks))
    try:
        while pending:
            pending = pending[file.write(pending) :]
        os.fsync(file)
    except OSError:
        file.seek(start)
        raise
    chunks.clear()
