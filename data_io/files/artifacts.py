"""Read and write records and results atomically, without pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data_io.files import names
from data_io.files.output_files import atomic_path, expanded
from data_io.records import GlobalFeatures, ImageList, Ranking

Record = TypeVar("Record", GlobalFeatures, ImageList, Ranking)


class StaleArtifact(ValueError):
    """A stored artifact was made by another configuration than the current one."""


def write_text(path: str | Path, text: str) -> None:
    """Write a text file as UTF-8, atomically; what UTF-8 cannot hold is escaped."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=names.ERRORS)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON data, atomically; strings are written as `names.escaped` does."""
    write_text(path, json_text(value, indent=1) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON data as text; strings are written as `names.escaped` does."""
    return json.dumps(names.escaped_values(value), indent=indent, ensure_ascii=False)


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Args:
        path: the file.

    Returns:
        The JSON data.

    Raises:
        ValueError: the file is missing or not JSON.
    """
    try:
        return names.unescaped_values(json.loads(Path(path).read_text(encoding="utf-8-sig")))
    except FileNotFoundError:
        raise ValueError(f"{path}: not found. Check the path.") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path}: not readable as JSON ({error}); "
            "it may be half-written: delete it and run again."
        ) from None


def write_npz(path: str | Path, **columns: Any) -> None:
    """Write arrays as .npz, atomically."""
    # As np.savez, which leaves its archive open after an error: its end then writes a traceback.
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, values in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(values), allow_pickle=False)


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file; raise one of many types of errors if it is damaged."""
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def digest_of(value: Any) -> str:
    """Return 12 hex digits that identify `value`, which must be JSON data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def one_line(error: Exception) -> str:
    """Return the text of an error on one line, or its type if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def save_record(path: str | Path, record: GlobalFeatures | ImageList | Ranking) -> None:
    """Write a record as .npz, atomically; the name of its class is stored too."""
    path = expanded(path)
    columns = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    if isinstance(record, ImageList):
        columns["skipped"] = np.asarray(record.skipped, dtype=str).reshape(-1, 2)
    columns = {
        name: names.escaped_texts(np.asarray(value))
        for name, value in columns.items()
        if value is not None
    }
    write_npz(path, record_type=type(record).__name__, **columns)


def load_record(path: str | Path, record_type: type[Record]) -> Record:
    """Read what `save_record` wrote.

    Args:
        path: the file.
        record_type: the class of the record.

    Returns:
        The record.

    Raises:
        ValueError: the file is missing, damaged or of another type.
    """
    path = expanded(path)
    try:
        columns: dict[str, Any] = read_npz(path)
        type_name = str(columns.pop("record_type", "an unknown record"))
        if type_name != record_type.__name__:
            raise ValueError(f"it contains {type_name}")
        for name, value in columns.items():
            text = names.unescaped_texts(value)
            columns[name] = text.item() if text.ndim == 0 else text
        return record_type(**columns)
    except FileNotFoundError:
        raise ValueError(f"{path}: not found. Check the path.") from None
    # A damaged archive raises many types, from KeyError to NotImplementedError.
    except Exception as error:
        raise ValueError(
            f"{path}: not a valid {record_type.__name__} ({one_line(error)}); "
            "delete it and run again."
        ) from error
