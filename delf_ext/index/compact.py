"""A gallery in a half or a quarter of its memory, searched with the same result to the last bit.

Codes choose a shortlist, the float32 embeddings order it; these may lie on disk, of which only the shortlist is read. With each
row stands how far its codes are off, |g - decoded g|: for a query of unit length no similarity is off by more (Cauchy-Schwarz).
So the shortlist holds the nearest by proof, not by luck; the price of int8 is a longer one.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_io.artifacts import atomic_path
from data_io.records import GlobalFeatures, Ranking
from delf_ext.index.exact import checked_top_k, provenance_of, ranked, shortlists_at_once
from delf_ext.index.shortlist import Shortlists, tile_rows

INT8_STEPS = 127
VALUES_PER_TILE = 2**20  # 4 MB decoded
ROOMS = {"float16": 16, "int8": 512}  # in a shortlist beside its k
ERROR_SHARE = (
    1.01  # lengths to 1.001, and summing what is longer than the product's error allows for
)
CODES, EMBEDDINGS = "codes.npz", "embeddings.npy"
COLUMNS = {"record_type", "ids", "codes", "scales", "errors", "digest"}
ROWS_CHECKED = 64


@dataclass(frozen=True, eq=False)
class CompactGallery:
    """ids [G] str; codes [G, D] float16 or int8, times scales [G] float32 about the embeddings [G, D] float32, which may be
    memory-mapped; errors [G] float32: how far a similarity may be off by the codes. digest: of what made the embeddings."""

    ids: np.ndarray
    codes: np.ndarray
    scales: np.ndarray
    errors: np.ndarray
    embeddings: np.ndarray
    digest: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def tiles(self, num_rows: int) -> Iterator[np.ndarray]:
        """The decoded rows, float32, up to `num_rows` at a time."""
        for start in range(0, len(self), num_rows):
            rows = slice(start, start + num_rows)
            yield _decoded(self.codes[rows], self.scales[rows])


def compacted(gallery: GlobalFeatures, dtype: str = "int8") -> CompactGallery:
    """Codes of a gallery: "float16" (half its memory) or "int8" (a quarter, its own scale for each row).

    Raises: ValueError on another dtype.
    """
    if dtype not in ROOMS:
        raise ValueError(f"codes must be {' or '.join(ROOMS)}. Received {dtype}.")
    embeddings = np.ascontiguousarray(gallery.embeddings)
    codes = np.empty(embeddings.shape, dtype)
    scales, errors = np.ones(len(codes), np.float32), np.empty(len(codes), np.float32)
    step = max(1, VALUES_PER_TILE // embeddings.shape[1])
    for start in range(0, len(codes), step):
        rows = slice(start, start + step)
        if dtype == "int8":
            scales[rows] = np.abs(embeddings[rows]).max(axis=1) / INT8_STEPS
            codes[rows] = np.rint(embeddings[rows] / scales[rows, np.newaxis]).clip(
                -INT8_STEPS, INT8_STEPS
            )
        else:
            codes[rows] = embeddings[rows]
        errors[rows] = _errors(codes[rows], scales[rows], embeddings[rows])
    return CompactGallery(gallery.ids, codes, scales, errors, embeddings, gallery.digest)


def search_compact(query: GlobalFeatures, gallery: CompactGallery, top_k: int) -> Ranking:
    """As `delf_ext.index.exact.search` with the embeddings that the codes were made of, bit by bit, and refusing as it does.

    Memory beside gallery and result: about 100 MB. A query is compared with all embeddings where more lie too near its k-th for
    the codes: max(k, 16) others, int8 max(k, 512). If that were all queries, this is two full products.
    """
    k = checked_top_k(query, gallery.embeddings.shape, gallery.digest, top_k)
    rows, scores = np.empty((len(query), k), np.int32), np.empty((len(query), k), np.float32)
    step = shortlists_at_once(k)
    for start in range(0, len(query), step):
        block = slice(start, min(start + step, len(query)))
        part = np.ascontiguousarray(query.embeddings[block])
        lists = Shortlists.empty(
            len(part), part.shape[1], k, gallery.errors, ROOMS[gallery.codes.dtype.name]
        )
        tiles = gallery.tiles(min(tile_rows(len(part)), max(1, VALUES_PER_TILE // part.shape[1])))
        rows[block], scores[block] = ranked(part, gallery.embeddings, lists, tiles)
    return Ranking(query.ids, gallery.ids, rows, scores, provenance=provenance_of(k))


def save_compact(folder: str | Path, gallery: CompactGallery) -> None:
    """Writes a folder of two files, each whole or not at all, the codes last."""
    columns = {field.name: getattr(gallery, field.name) for field in dataclasses.fields(gallery)}
    with atomic_path(Path(folder) / EMBEDDINGS) as temporary, open(temporary, "wb") as file:
        np.save(file, columns.pop("embeddings"), allow_pickle=False)
    with atomic_path(Path(folder) / CODES) as temporary, open(temporary, "wb") as file:
        np.savez(file, record_type=np.asarray(CompactGallery.__name__), **columns)


def load_compact(folder: str | Path) -> CompactGallery:
    """What `save_compact` wrote, the embeddings memory-mapped. Raises: ValueError naming a missing, damaged or foreign file."""
    path, embeddings_path = Path(folder) / CODES, Path(folder) / EMBEDDINGS
    try:
        with open(path, "rb") as file:
            stored = np.load(file, allow_pickle=False)
            columns = {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise ValueError(f"{path}: not found.") from None
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a readable record ({error}); make it again.") from None
    if set(columns) != COLUMNS or str(columns.pop("record_type")) != CompactGallery.__name__:
        raise ValueError(f"{path}: holds no {CompactGallery.__name__}.")
    try:
        embeddings = np.asarray(np.load(embeddings_path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError:
        raise ValueError(f"{embeddings_path}: not found.") from None
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{embeddings_path}: not readable ({error}); make it again.") from None
    gallery = CompactGallery(**{**columns, "digest": str(columns["digest"])}, embeddings=embeddings)
    if not _fits(gallery):
        raise ValueError(
            f"{embeddings_path}: not the embeddings that {CODES} was made of; make both again."
        )
    return gallery


def _fits(gallery: CompactGallery) -> bool:
    """By shapes, and by some of the rows: a file as large as memory is not read to check it."""
    shape = gallery.codes.shape
    if (
        len(shape) != 2
        or gallery.embeddings.shape != shape
        or gallery.embeddings.dtype != np.float32
    ):
        return False
    if gallery.codes.dtype.name not in ROOMS or not gallery.embeddings.flags.c_contiguous:
        return False
    for column, dtype in (
        (gallery.scales, np.float32),
        (gallery.errors, np.float32),
        (gallery.ids, gallery.ids.dtype),
    ):
        if column.shape != shape[:1] or column.dtype != dtype:
            return False
    some = np.unique(np.linspace(0, max(0, shape[0] - 1), ROWS_CHECKED).astype(np.int64))[
        : shape[0]
    ]
    errors = _errors(gallery.codes[some], gallery.scales[some], gallery.embeddings[some])
    return bool((errors <= gallery.errors[some]).all())


def _decoded(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    values = codes.astype(np.float32)
    if codes.dtype == np.int8:
        values *= scales[:, np.newaxis]
    return values


def _errors(codes: np.ndarray, scales: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    missed = embeddings.astype(np.float64) - _decoded(codes, scales)
    return (ERROR_SHARE * np.sqrt((missed * missed).sum(axis=1))).astype(np.float32)
