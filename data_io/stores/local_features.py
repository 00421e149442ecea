"""Store local features on disk, image by image, and read them through a memory map.

A store can be resumed after its writer was killed. For the files see `data_io.stores.local_index`.
"""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from data_io.files.artifacts import StaleArtifact, json_text, write_json
from data_io.files.contents import content_digest
from data_io.files.locks import only_writer
from data_io.records import ImageKeypoints, LocalFeatures
from data_io.stores.local_index import (
    CONTENT,
    DATA_FILE,
    FORMAT,
    HEADER_FILE,
    INDEX_FILE,
    DamagedStore,
    StoreIndex,
    read_header,
    read_index,
)
from data_io.stores.packed_local_features import local_features, packed, record_dtype

# Each commit waits for the disk twice.
COMMIT_IMAGES = 32
LOCK_FILE = ".lock"


class LocalStoreWriter:
    """Writer of a store; a context manager that resumes after the last complete image.

    Attributes:
        done: id -> line of the index, for each stored image.
        recovered: number of incomplete images that were in the index and were removed.
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
        """Prepare the writer; the store is opened by `with`.

        Args:
            folder: of the store.
            dimension: of the descriptors.
            digest: of the extractor.
            made_by: JSON data that describes the extractor to people.
            dtype: of the stored descriptors, "float16" or "int8" (steps of 1/127).
            overwrite: delete what the folder contains and start again.
        """
        self.folder = Path(folder)
        self.overwrite = overwrite
        self.header: dict[str, Any] = dict(
            format=FORMAT, dimension=int(dimension), dtype=dtype, digest=digest, made_by=made_by
        )
        self.record = record_dtype(dimension, dtype)
        self.done: dict[str, dict[str, Any]] = {}
        self.recovered = 0
        self._skipped: dict[str, tuple[str, str]] = {}
        self._blocks: list[bytes] = []
        self._lines: list[bytes] = []

    def __enter__(self) -> LocalStoreWriter:
        """Open the store and lock it.

        Returns:
            This writer.

        Raises:
            StaleArtifact: the store has another digest, dimension or dtype.
            ValueError: another writer has the store open.
            DamagedStore: the store is damaged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            lock = only_writer(self.folder / LOCK_FILE, "writing these local features")
            opened.enter_context(lock)
            if self.overwrite or not is_store(self.folder):
                self._create()
            index = self._resume()
            self._data = opened.enter_context(open(self.folder / DATA_FILE, "r+b", buffering=0))
            self._index = opened.enter_context(open(self.folder / INDEX_FILE, "r+b", buffering=0))
            self._data.truncate(self._data.seek(index.num_rows * self.record.itemsize))
            self._index.truncate(self._index.seek(index.num_bytes))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._opened:
            self.flush()

    def add(self, image_id: str, path: str | Path, features: ImageKeypoints) -> None:
        """Store the features of one image.

        Args:
            image_id: id of the image.
            path: of the image file.
            features: its local features.

        Raises:
            ValueError: the image is stored already, or its descriptors do not fit.
        """
        self._refuse_stored(image_id)
        try:
            self._blocks.append(packed(features, self.record).tobytes())
        except ValueError as error:
            raise ValueError(f"{image_id}: {error}") from None
        width, height = features.size_px
        self.done[image_id] = dict(
            id=image_id,
            path=str(path),
            file_bytes=_file_bytes(path),
            content=content_digest(path),
            num_features=len(features),
            width=width,
            height=height,
        )
        self._write_line(self.done[image_id])

    def changed(self, image_id: str, path: str | Path) -> bool:
        """Return whether the file of a stored image now has another content.

        In a store of an earlier version, the path and the size of the file are compared.
        """
        entry = self.done.get(image_id)
        if entry is None:
            return False
        if entry.get(CONTENT):
            return bool(entry[CONTENT] != content_digest(path))
        return entry["path"] != str(path) or entry["file_bytes"] != _file_bytes(path)

    def skip(self, image_id: str, path: str | Path, reason: str) -> None:
        """Note an image that has no features; a resumed run tries it again.

        Args:
            image_id: id of the image.
            path: of the image file.
            reason: why it has no features.

        Raises:
            ValueError: the image is stored already.
        """
        self._refuse_stored(image_id)
        if self._skipped.get(image_id) != (str(path), reason):
            self._skipped[image_id] = (str(path), reason)
            self._write_line(dict(id=image_id, path=str(path), skipped=reason))

    def flush(self) -> None:
        """Write all features to the disk, then the lines of their images."""
        _append(self._data, self._blocks)
        _append(self._index, self._lines)

    def _refuse_stored(self, image_id: str) -> None:
        if image_id in self.done:
            raise ValueError(f"{image_id}: stored already, from {self.done[image_id]['path']}.")

    def _write_line(self, entry: dict[str, Any]) -> None:
        self._lines.append(json_text(entry).encode() + b"\n")
        if len(self._lines) >= COMMIT_IMAGES:
            self.flush()

    def _create(self) -> None:
        """Replace the files; a reader that has the old ones open keeps them.

        The header is written last, because a folder without one is not a store.
        """
        (self.folder / HEADER_FILE).unlink(missing_ok=True)
        for name in (INDEX_FILE, DATA_FILE):
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / name).touch()
        write_json(self.folder / HEADER_FILE, self.header)

    def _resume(self) -> StoreIndex:
        stored = read_header(self.folder, self.header["digest"])
        for key in ("dimension", "dtype"):
            if stored[key] != self.header[key]:
                raise StaleArtifact(
                    f"{self.folder} contains {key} {stored[key]}; now {self.header[key]}. "
                    "Pass --overwrite (overwrite=True)."
                )
        index = read_index(self.folder, self.record)
        self.done = {entry["id"]: entry for entry in index.stored}
        self._skipped = index.skipped
        self.recovered = index.num_dropped
        return index


def is_store(folder: str | Path) -> bool:
    """Return whether the folder contains a store of local features."""
    return (Path(folder) / HEADER_FILE).is_file()


def load_local(folder: str | Path, digest: str | None = None) -> LocalFeatures:
    """Open a store as memory-mapped columns, up to its last complete image.

    Nothing is written, and no feature is read.

    Args:
        folder: the store.
        digest: if given, the stored digest must equal it.

    Returns:
        The local features of all stored images.

    Raises:
        ValueError: there is no store.
        DamagedStore: the store is damaged.
        StaleArtifact: the store has another digest.
    """
    header = read_header(folder, digest)
    record = record_dtype(header["dimension"], header["dtype"])
    index = read_index(folder, record)
    # A memory map cannot be empty.
    if index.num_rows:
        rows: np.ndarray = np.memmap(Path(folder) / DATA_FILE, record, "r", shape=(index.num_rows,))
    else:
        rows = np.zeros(0, record)
    try:
        return local_features(
            [entry["id"] for entry in index.stored],
            [entry["num_features"] for entry in index.stored],
            [(entry["width"], entry["height"]) for entry in index.stored],
            rows,
            header["digest"],
        )
    except ValueError as error:
        raise DamagedStore(folder, str(error)) from None


def skipped_of(folder: str | Path) -> tuple[tuple[str, str], ...]:
    """Return (path, reason) of each skipped image of a store; errors as `load_local`."""
    return tuple(_index_of(folder).skipped.values())


def paths_of(folder: str | Path) -> dict[str, str]:
    """Return id -> path of each stored image of a store; errors as `load_local`."""
    return {entry["id"]: entry["path"] for entry in _index_of(folder).stored}


def _index_of(folder: str | Path) -> StoreIndex:
    header = read_header(folder, digest=None)
    return read_index(folder, record_dtype(header["dimension"], header["dtype"]))


def _file_bytes(path: str | Path) -> int:
    """Return the size of a file, -1 if there is none."""
    return os.stat(path).st_size if os.path.exists(path) else -1


def _append(file: FileIO, chunks: list[bytes]) -> None:
    """Write chunks to the disk and clear the list; after an error the call can be repeated.

    Raises:
        OSError: the disk refuses; `filename` is the file.
    """
    start = file.tell()
    pending = memoryview(b"".join(chunks))
    try:
        while pending:
            pending = pending[file.write(pending) :]
        os.fsync(file)
    except OSError as error:
        file.seek(start)
        raise OSError(error.errno, error.strerror, file.name) from error
    chunks.clear()
