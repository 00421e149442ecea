"""Records and results on disk: written whole or not at all, read back without unpickling, refused when stale."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data_io.records import GlobalFeatures, ImageList, Ranking

_UMASK = os.umask(0)  # it can only be asked for by changing it, which threads must not do at once
os.umask(_UMASK)

Record = TypeVar("Record", GlobalFeatures, ImageList, Ranking)


class StaleArtifact(ValueError):
    """An artifact made by another configuration than the one that asks for it."""


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; renamed over it when the block succeeds, removed when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(
            temporary, 0o666 & ~_UMASK
        )  # mkstemp makes private files; a result is as readable as any other
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Raises: ValueError naming the file when it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: not found.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path}: not readable as JSON ({error}); it may be half-written: delete it and run again."
        ) from None


def digest_of(value: Any) -> str:
    """12 hex digits that change when `value` (plain JSON data) does."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def save_record(path: str | Path, record: GlobalFeatures | ImageList | Ranking) -> None:
    """Writes a record as .npz, atomically. Its class name is stored and checked on loading."""
    columns = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    if isinstance(record, ImageList):
        columns["skipped"] = np.asarray(record.skipped, dtype=str).reshape(-1, 2)
    columns = {name: value for name, value in columns.items() if value is not None}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, record_type=np.asarray(type(record).__name__), **columns)


def load_record(path: str | Path, record_type: type[Record], digest: str | None = None) -> Record:
    """Reads what `save_record` wrote.

    digest: when given, the stored digest (GlobalFeatures) must equal it.
    Raises: ValueError naming the file when it is missing, damaged or of another type; StaleArtifact on another digest.
    """
    try:
        with open(path, "rb") as file:
            stored = np.load(file, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise ValueError("a single array")
            columns = {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: not found.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: not a readable record ({error}); delete it and run again."
        ) from None
    found = str(columns.pop("record_type", "nothing known"))
    if found != record_type.__name__:
        raise ValueError(f"{path}: holds {found}, not {record_type.__name__}.")
    for name, value in columns.items():
        columns[name] = value.item() if value.ndim == 0 else value
    if digest is not None and columns.get("digest") != digest:
        raise StaleArtifact(
            f"{path} was made by config {columns.get('digest')}; now {digest}. Pass --overwrite."
        )
    try:
        return record_type(**columns)
    except (TypeError, ValueError) as error:  # a column missing, unknown or changed by hand
        raise ValueError(
            f"{path}: not a valid {record_type.__name__} ({error}); delete it and run again."
        ) from error
