"""Search a gallery that is held in a half or a quarter of its memory, with the same exact result.

The gallery is held as float16 or int8 codes. They choose a shortlist, and the float32 embeddings of
these few images decide; the embeddings may be memory-mapped, because only these rows are read.

For each row the distance between its embedding and its decoded codes is kept. No similarity to a
query of unit length can be wrong by more (Cauchy-Schwarz). With this bound the shortlist is sure to
hold the nearest images, so the result has the same bits as `exact.search`. The errors of int8 are
larger, so its shortlists are longer.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_io.files.artifacts import atomic_path, read_npz, write_npz
from data_io.records import GlobalFeatures, Ranking
from delf_ext.index import exact
from delf_ext.index.exact import (
    RowsAndScores,
    checked_top_k,
    join_blocks,
    search_by_blocks,
    search_tiles,
    shortlists_per_block,
)
from delf_ext.index.failed import usable, with_failed
from delf_ext.index.shortlist import Shortlists, tile_rows

INT8_STEPS = 127
# 4 MB of decoded values.
VALUES_PER_TILE = 2**20
# Least number of images in a shortlist in addition to k.
EXTRA_ROOM = {"float16": 16, "int8": 512}
# Allows for lengths up to 1.001 and for summation errors that grow with the length.
ERROR_FACTOR = 1.01
CODES = "codes.npz"
EMBEDDINGS = "embeddings.npy"
COLUMNS = {"record_type", "ids", "codes", "scales", "errors", "digest"}
ROWS_CHECKED = 64


@dataclass(frozen=True, eq=False)
class CompactGallery:
    """Gallery features held as codes.

    Attributes:
        ids: str [G].
        codes: float16 or int8 [G, D]; codes times scales are about the embeddings.
        scales: float32 [G].
        errors: float32 [G], how much a similarity of decoded codes may be wrong.
        embeddings: float32 [G, D], unit length; may be memory-mapped.
        digest: of the model that made the embeddings.
    """

    ids: np.ndarray
    codes: np.ndarray
    scales: np.ndarray
    errors: np.ndarray
    embeddings: np.ndarray
    digest: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def tiles(self, num_rows: int) -> Iterator[np.ndarray]:
        """Decode the codes.

        Args:
            num_rows: most rows to decode at a time.

        Yields:
            float32 [T, D], T up to `num_rows`, in order.
        """
        for start in range(0, len(self), num_rows):
            rows = slice(start, start + num_rows)
            yield _decode(self.codes[rows], self.scales[rows])


def compact_gallery(gallery: GlobalFeatures, dtype: str = "int8") -> CompactGallery:
    """Encode the embeddings of a gallery.

    Args:
        gallery: embeddings [G, D].
        dtype: "float16" (half the memory) or "int8" (a quarter, with a scale for each row).

    Returns:
        The gallery as codes.

    Raises:
        ValueError: if `dtype` is another, or an embedding failed.
    """
    if dtype not in EXTRA_ROOM:
        raise ValueError(f"codes must be {' or '.join(EXTRA_ROOM)}. Received {dtype}.")
    if gallery.failed.any():
        raise ValueError(
            f"{gallery.failed.sum()} embeddings of the gallery failed, such as that of "
            f"{gallery.ids[gallery.failed][0]}: leave these images out."
        )
    embeddings = np.ascontiguousarray(gallery.embeddings)
    codes = np.empty(embeddings.shape, dtype)
    scales = np.ones(len(codes), np.float32)
    errors = np.empty(len(codes), np.float32)
    step = max(1, VALUES_PER_TILE // embeddings.shape[1])
    for start in range(0, len(codes), step):
        rows = slice(start, start + step)
        if dtype == "int8":
            scales[rows] = np.abs(embeddings[rows]).max(axis=1) / INT8_STEPS
            steps = np.rint(embeddings[rows] / scales[rows, np.newaxis])
            codes[rows] = steps.clip(-INT8_STEPS, INT8_STEPS)
        else:
            codes[rows] = embeddings[rows]
        errors[rows] = _errors(codes[rows], scales[rows], embeddings[rows])
    return CompactGallery(gallery.ids, codes, scales, errors, embeddings, gallery.digest)


def search_compact(query: GlobalFeatures, gallery: CompactGallery, top_k: int) -> Ranking:
    """Search as `exact.search` does, with the same bits and errors.

    It needs about 100 MB besides gallery and result. Queries whose shortlist is too small for the
    errors of the codes are compared with all embeddings; if all are, that is two full products.

    Args:
        query: embeddings [Q, D].
        gallery: codes [G, D] of embeddings made by the same model.
        top_k: number of images per query.

    Returns:
        Ranking with rows and scores [Q, min(top_k, G)], nearest first.

    Raises:
        ValueError: as `exact.search`.
    """
    k = checked_top_k(query, gallery.embeddings.shape, gallery.digest, top_k)
    if query.failed.any():
        whole = GlobalFeatures.trusted(ids=gallery.ids, embeddings=gallery.embeddings)
        if query.failed.all():
            return exact.search(query, whole, top_k)
        return with_failed(search_compact(usable(query), gallery, k), query, whole, k)
    num_dims = query.embeddings.shape[1]
    extra_room = EXTRA_ROOM[gallery.codes.dtype.name]

    def search_block(query: np.ndarray) -> RowsAndScores:
        lists = Shortlists.empty(len(query), num_dims, k, gallery.errors, extra_room)
        num_rows = min(tile_rows(len(query)), max(1, VALUES_PER_TILE // num_dims))
        return search_tiles(query, gallery.embeddings, lists, gallery.tiles(num_rows))

    blocks = search_by_blocks(query, shortlists_per_block(k), search_block)
    return join_blocks(query.ids, gallery.ids, k, blocks)


def save_compact(folder: str | Path, gallery: CompactGallery) -> None:
    """Write a compact gallery as two files, each of them atomically, the codes last.

    Args:
        folder: directory to write to.
        gallery: codes and embeddings [G, D].
    """
    columns = {field.name: getattr(gallery, field.name) for field in dataclasses.fields(gallery)}
    with atomic_path(Path(folder) / EMBEDDINGS) as temporary, open(temporary, "wb") as file:
        np.save(file, columns.pop("embeddings"), allow_pickle=False)
    write_npz(Path(folder) / CODES, record_type=CompactGallery.__name__, **columns)


def load_compact(folder: str | Path) -> CompactGallery:
    """Read what `save_compact` wrote.

    Args:
        folder: directory of the two files.

    Returns:
        The gallery, its embeddings memory-mapped.

    Raises:
        ValueError: if a file is missing, damaged or of another kind.
    """
    path = Path(folder) / CODES
    columns = _read(path, read_npz)
    if set(columns) != COLUMNS or str(columns.pop("record_type")) != CompactGallery.__name__:
        raise ValueError(f"{path}: is not a {CompactGallery.__name__}.")
    columns["digest"] = str(columns["digest"])
    path = Path(folder) / EMBEDDINGS
    embeddings = np.asarray(_read(path, partial(np.load, mmap_mode="r", allow_pickle=False)))
    gallery = CompactGallery(**columns, embeddings=embeddings)
    if not _fits(gallery):
        raise ValueError(
            f"{path}: does not hold the embeddings of {CODES}; save the gallery again."
        )
    return gallery


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: not found; save the gallery again.") from None
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read ({error}); save the gallery again.") from None


def _fits(gallery: CompactGallery) -> bool:
    """Return whether shapes, types and some rows fit. The file may be too large to read it all."""
    codes = gallery.codes
    embeddings = gallery.embeddings
    if codes.ndim != 2 or codes.dtype.name not in EXTRA_ROOM:
        return False
    if embeddings.shape != codes.shape or not embeddings.flags.c_contiguous:
        return False
    columns = (gallery.ids, gallery.scales, gallery.errors)
    if any(column.shape != codes.shape[:1] for column in columns):
        return False
    dtypes = {embeddings.dtype, gallery.scales.dtype, gallery.errors.dtype}
    if dtypes != {np.dtype(np.float32)}:
        return False
    spread_rows = np.linspace(0, max(0, len(codes) - 1), ROWS_CHECKED).astype(np.int64)
    rows = np.unique(spread_rows)[: len(codes)]
    errors = _errors(codes[rows], gallery.scales[rows], embeddings[rows])
    return bool((errors <= gallery.errors[rows]).all())


def _decode(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    values = codes.astype(np.float32)
    if codes.dtype == np.int8:
        values *= scales[:, np.newaxis]
    return values


def _errors(codes: np.ndarray, scales: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    difference = embeddings.astype(np.float64) - _decode(codes, scales)
    return (ERROR_FACTOR * np.sqrt((difference * difference).sum(axis=1))).astype(np.float32)
