"""Read the header and the index of a store of local features.

`store.json` has the format, dimension, dtype, digest and a description of the extractor.
`features.bin` has one packed record per feature. `images.jsonl` has one line per image, in order; a
line is written after the features of its image are on the disk.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_io.files.artifacts import StaleArtifact, read_json
from data_io.files.names import unescaped_values

FORMAT = 1
HEADER_FILE = "store.json"
INDEX_FILE = "images.jsonl"
DATA_FILE = "features.bin"
HEADER_KEYS = {"format", "dimension", "dtype", "digest", "made_by"}
STORED_KEYS = {"id", "path", "file_bytes", "num_features", "width", "height"}
# Stores of earlier versions have no content.
CONTENT = "content"
SKIPPED_KEYS = {"id", "path", "skipped"}


class DamagedStore(ValueError):
    """A store of local features is incomplete or damaged."""

    def __init__(self, folder: str | Path, reason: str) -> None:
        super().__init__(
            f"{folder}: corrupt or incomplete local-feature store ({reason}); "
            "extract again with --overwrite (overwrite=True)."
        )


@dataclass(frozen=True)
class StoreIndex:
    """The valid lines of an index.

    Attributes:
        stored: the lines of images that have all their features in the store.
        skipped: id -> (path, reason) of images without features.
        num_rows: number of features of the stored images.
        num_bytes: length of the valid lines.
        num_dropped: number of lines after the valid ones.
    """

    stored: list[dict[str, Any]]
    skipped: dict[str, tuple[str, str]]
    num_rows: int
    num_bytes: int
    num_dropped: int


def read_header(folder: str | Path, digest: str | None) -> dict[str, Any]:
    """Read and check the header of a store.

    Args:
        folder: the store.
        digest: if given, the stored digest must equal it.

    Returns:
        The header.

    Raises:
        ValueError: there is no store.
        DamagedStore: the header is damaged.
        StaleArtifact: the store has another digest.
    """
    header = read_json(Path(folder) / HEADER_FILE)
    if not isinstance(header, dict) or header.keys() != HEADER_KEYS or header["format"] != FORMAT:
        raise DamagedStore(folder, f"{HEADER_FILE} is not of format {FORMAT}")
    if digest is not None and header["digest"] != digest:
        raise StaleArtifact(
            f"{folder} was made by config {header['digest']}; now {digest}. "
            "Pass --overwrite (overwrite=True)."
        )
    return header


def read_index(folder: str | Path, record: np.dtype) -> StoreIndex:
    """Read the index up to the last image whose features are all in the store.

    Args:
        folder: the store.
        record: the dtype of one feature.

    Returns:
        The valid lines.

    Raises:
        DamagedStore: a file is missing, or a valid line follows a damaged one (a killed process can
            only damage the end).
    """
    try:
        lines = (Path(folder) / INDEX_FILE).read_bytes().splitlines(keepends=True)
        num_available = _num_complete_rows(Path(folder) / DATA_FILE, record.itemsize)
    except FileNotFoundError as error:
        raise DamagedStore(folder, f"{Path(error.filename).name} is missing") from None
    entries = [_entry(line) for line in lines]
    stored: list[dict[str, Any]] = []
    skipped: dict[str, tuple[str, str]] = {}
    num_rows = 0
    num_lines = 0
    for entry in entries:
        if entry is None or num_rows + entry.get("num_features", 0) > num_available:
            break
        num_lines += 1
        num_rows += entry.get("num_features", 0)
        if "skipped" in entry:
            skipped[entry["id"]] = (entry["path"], entry["skipped"])
        else:
            stored.append(entry)
            # An image that was skipped before may have been repaired since.
            skipped.pop(entry["id"], None)
    if None in entries and any(entries[entries.index(None) :]):
        raise DamagedStore(
            folder, f"line {entries.index(None) + 1} of {INDEX_FILE} is not readable"
        )
    num_bytes = sum(map(len, lines[:num_lines]))
    return StoreIndex(stored, skipped, num_rows, num_bytes, len(lines) - num_lines)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return one line of the index; None if it is incomplete or damaged."""
    try:
        entry = unescaped_values(json.loads(line))
    except ValueError:
        return None
    if not line.endswith(b"\n") or not isinstance(entry, dict):
        return None
    if entry.keys() not in (STORED_KEYS, STORED_KEYS | {CONTENT}, SKIPPED_KEYS):
        return None
    for key, value in entry.items():
        if type(value) is not (str if key in SKIPPED_KEYS | {CONTENT} else int):
            return None
    return entry


def _num_complete_rows(path: Path, row_bytes: int) -> int:
    """Return the number of features in a file, without zeros that a power cut left at its end."""
    # No feature is all zeros, because its descriptor has unit length.
    with open(path, "rb") as file:
        count = file.seek(0, os.SEEK_END) // row_bytes
        while count:
            file.seek((count - 1) * row_bytes)
            if any(file.read(row_bytes)):
                break
            count -= 1
    return count
