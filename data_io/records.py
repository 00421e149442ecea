"""The frozen records that travel between stages.

Each record checks itself when it is made and holds read-only arrays, so that whoever receives one may rely on it.
Ids travel with rows, always: row i of an array belongs to `ids[i]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

UNIT_LENGTH_TOLERANCE = 1e-3
DESCRIPTOR_TOLERANCE = 0.1  # local descriptors are stored in 8 or 16 bits
INT8_STEPS = 127


def _readonly(values: Any, dtype: Any) -> np.ndarray:
    """A read-only array that nobody else can write into; copied unless it is one already, or new."""
    array = np.asarray(values, dtype=dtype)
    frozen = array.base is None and not array.flags.writeable
    if not frozen:
        array = array.copy() if array is values or array.base is not None else array
        array.setflags(write=False)
    return array


def _kept(values: np.ndarray, dtypes: tuple[Any, ...], what: str) -> np.ndarray:
    """A read-only array as it is: it may be a file in memory, larger than memory. Another one is copied."""
    if values.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        raise ValueError(
            f"{what} must be {' or '.join(np.dtype(dtype).name for dtype in dtypes)}. Received {values.dtype}."
        )
    return _readonly(values, values.dtype) if values.flags.writeable else values


def _texts(values: Sequence[str] | np.ndarray) -> np.ndarray:
    return _readonly(np.asarray(values, dtype=str) if len(values) else np.zeros(0, "<U1"), None)


def _require_unique(ids: np.ndarray, what: str) -> None:
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        raise ValueError(
            f"{what} must be unique. Received twice: {', '.join(unique[counts > 1][:3])}."
        )


def _set(record: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(record, name, value)


def _set_trusted(record: Any, **values: Any) -> None:
    """Set fields without checking them; arrays become read-only in place, without a copy."""
    for value in values.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    _set(record, **values)


@dataclass(frozen=True, eq=False)
class ImageList:
    """Image files in a fixed order.

    ids: [N] str, unique. paths: [N] str. labels: [N] int64, or None when unknown. groups: [N] str, or None: the part of the
    data a row belongs to (a camera, a shop); metrics are also reported for each. skipped: (path, reason) of every file left out.
    """

    ids: np.ndarray
    paths: np.ndarray
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None
    skipped: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _set(
            self,
            ids=_texts(self.ids),
            paths=_texts(self.paths),
            skipped=tuple(map(tuple, self.skipped)),
        )
        if self.labels is not None:
            _set(self, labels=_readonly(self.labels, np.int64))
        if self.groups is not None:
            _set(self, groups=_texts(self.groups))
        for name in ("paths", "labels", "groups"):
            column = getattr(self, name)
            if column is not None and column.shape != self.ids.shape:
                raise ValueError(
                    f"{name} must have one entry per id. Received {column.shape} for {self.ids.shape} ids."
                )
        _require_unique(self.ids, "image ids")

    def __len__(self) -> int:
        return len(self.ids)

    def known_labels(self, what: str) -> np.ndarray:
        """The labels, for `what` needs them. Raises: ValueError saying so when there are none."""
        if self.labels is None:
            raise ValueError(f"{what} needs labels; these images have none.")
        return self.labels

    def take(
        self, rows: Iterable[int] | np.ndarray, skipped: Iterable[tuple[str, str]] | None = None
    ) -> ImageList:
        """The given rows (ints or a bool mask) in that order; `skipped` replaces the list of skipped files."""
        rows = np.asarray(rows if isinstance(rows, np.ndarray) else list(rows))
        rows = rows if rows.dtype == bool else rows.astype(np.int64)
        return ImageList(
            self.ids[rows],
            self.paths[rows],
            None if self.labels is None else self.labels[rows],
            None if self.groups is None else self.groups[rows],
            self.skipped if skipped is None else tuple(skipped),
        )


@dataclass(frozen=True, eq=False)
class GlobalFeatures:
    """One embedding per image: ids [N] str, embeddings [N, D] float32 of unit length, digest of what made them."""

    ids: np.ndarray
    embeddings: np.ndarray
    digest: str = ""

    def __post_init__(self) -> None:
        _set(self, ids=_texts(self.ids), embeddings=_readonly(self.embeddings, np.float32))
        if self.embeddings.ndim != 2 or len(self.embeddings) != len(self.ids):
            raise ValueError(
                f"embeddings must be [N, D] for {len(self.ids)} ids. Received shape={self.embeddings.shape}."
            )
        _require_unique(self.ids, "image ids")
        lengths = np.linalg.norm(self.embeddings, axis=1)
        bad = ~(np.abs(lengths - 1.0) <= UNIT_LENGTH_TOLERANCE)  # written so that NaN counts as bad
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"embeddings must be of unit length. {self.ids[row]} has length {lengths[row]:.4g}."
            )

    @classmethod
    def trusted(
        cls, *, ids: np.ndarray, embeddings: np.ndarray, digest: str = ""
    ) -> GlobalFeatures:
        """Build a record without checking its content.

        Only for parts that were checked before or are right by construction. The arrays are not
        copied; they become read-only in place.

        Args:
            ids: str [N], unique.
            embeddings: float32 [N, D], unit length.
            digest: of the model that made the embeddings.

        Returns:
            A record that shares the given arrays.
        """
        assert ids.dtype.kind == "U"
        assert embeddings.dtype == np.float32
        assert embeddings.ndim == 2
        assert len(embeddings) == len(ids)
        features = cls.__new__(cls)
        _set_trusted(features, ids=ids, embeddings=embeddings, digest=digest)
        return features

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class ImageKeypoints:
    """The local features of one image, M of them, best first.

    keypoints_px [M, 2] float32 (x, y), pixel centres of the original image; scales_px [M] float32, side of the patch that each
    describes, original pixels; attention [M] float32, higher is more telling; descriptors [M, d] float32 of unit length;
    size_px: (width, height) of the original image.
    """

    keypoints_px: np.ndarray
    scales_px: np.ndarray
    attention: np.ndarray
    descriptors: np.ndarray
    size_px: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("keypoints_px", "scales_px", "attention", "descriptors"):
            _set(self, **{name: _readonly(getattr(self, name), np.float32)})
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} must be finite.")
        _set(self, size_px=(int(self.size_px[0]), int(self.size_px[1])))
        count = len(self.descriptors)
        shapes = (self.keypoints_px.shape, self.scales_px.shape, self.attention.shape)
        if self.descriptors.ndim != 2 or shapes != ((count, 2), (count,), (count,)):
            raise ValueError(
                f"one keypoint, scale and attention per descriptor [M, d]. Received {shapes} for {count}."
            )
        if (
            count
            and np.abs(np.linalg.norm(self.descriptors, axis=1) - 1.0).max() > DESCRIPTOR_TOLERANCE
        ):
            raise ValueError("descriptors must be of unit length.")
        beyond = (
            np.abs(self.keypoints_px - (np.array(self.size_px) - 1) / 2)
            > (np.array(self.size_px) + 1) / 2
        )
        if beyond.any():
            raise ValueError(
                f"keypoints must lie in the image of {self.size_px[0]} x {self.size_px[1]} pixels."
            )

    def __len__(self) -> int:
        return len(self.descriptors)


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Local features of many images, ragged: those of image i are the rows offsets[i] to offsets[i + 1] of every column.

    ids [N] str; offsets [N + 1] int64; sizes_px [N, 2] int32 (width, height); keypoints_px [T, 2], scales_px [T], attention [T]
    float32; descriptors [T, d] float16, or int8 in steps of 1/127. Columns may be memory-mapped: only `of` reads and checks
    their content. digest: of what made them; what stands before its "/" is equal where descriptors can be compared.
    """

    ids: np.ndarray
    offsets: np.ndarray
    sizes_px: np.ndarray
    keypoints_px: np.ndarray
    scales_px: np.ndarray
    attention: np.ndarray
    descriptors: np.ndarray
    digest: str = ""
    _row_of: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _set(
            self,
            ids=_texts(self.ids),
            offsets=_readonly(self.offsets, np.int64),
            sizes_px=_readonly(self.sizes_px, np.int32),
        )
        total = int(self.offsets[-1]) if len(self.offsets) else -1
        if (
            len(self.offsets) != len(self.ids) + 1
            or self.offsets[0] != 0
            or (np.diff(self.offsets) < 0).any()
        ):
            raise ValueError(
                f"offsets must be [N + 1], from 0, never falling. Received {len(self.offsets)} for {len(self.ids)} ids."
            )
        for name, shape in (
            ("keypoints_px", (total, 2)),
            ("scales_px", (total,)),
            ("attention", (total,)),
        ):
            _set(self, **{name: _kept(getattr(self, name), (np.float32,), name)})
            if getattr(self, name).shape != shape:
                raise ValueError(
                    f"{name} must be {shape}. Received shape={getattr(self, name).shape}."
                )
        _set(self, descriptors=_kept(self.descriptors, (np.float16, np.int8), "descriptors"))
        if (
            self.descriptors.ndim != 2
            or len(self.descriptors) != total
            or self.sizes_px.shape != (len(self.ids), 2)
        ):
            raise ValueError(
                f"descriptors must be [{total}, d]. Received shape={self.descriptors.shape}."
            )
        _require_unique(self.ids, "image ids")
        _set(self, _row_of={str(name): row for row, name in enumerate(self.ids)})

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def space(self) -> str:
        return self.digest.partition("/")[0]

    def of(self, image_id: str) -> ImageKeypoints:
        """The features of one image. Raises: ValueError naming an image that is not here, or whose features are damaged."""
        row = self._row_of.get(str(image_id))
        if row is None:
            raise ValueError(f"{image_id}: has no local features here.")
        rows = slice(self.offsets[row], self.offsets[row + 1])
        descriptors = np.asarray(self.descriptors[rows], np.float32)
        if self.descriptors.dtype == np.int8:
            descriptors /= np.float32(INT8_STEPS)
        try:
            return ImageKeypoints(
                np.array(self.keypoints_px[rows]),
                np.array(self.scales_px[rows]),
                np.array(self.attention[rows]),
                descriptors,
                tuple(self.sizes_px[row]),
            )
        except ValueError as error:
            raise ValueError(
                f"local features of {image_id} are damaged ({error}); extract them again."
            ) from None

    def __contains__(self, image_id: object) -> bool:
        return str(image_id) in self._row_of


@dataclass(frozen=True, eq=False)
class Ranking:
    """For each query the gallery, nearest first.

    query_ids [Q] and gallery_ids [G] str; rows [Q, k] int32, gallery rows, -1 pads the end; scores [Q, k] float32, higher is
    nearer, never rising along a row; complete [Q] bool, False where a time budget cut the work; provenance: how it was made.
    """

    query_ids: np.ndarray
    gallery_ids: np.ndarray
    rows: np.ndarray
    scores: np.ndarray
    complete: np.ndarray | None = None
    provenance: str = ""

    def __post_init__(self) -> None:
        _set(
            self,
            query_ids=_texts(self.query_ids),
            gallery_ids=_texts(self.gallery_ids),
            rows=_readonly(self.rows, np.int32),
            scores=_readonly(self.scores, np.float32),
        )
        complete = np.ones(len(self.query_ids), bool) if self.complete is None else self.complete
        _set(self, complete=_readonly(complete, bool))
        _require_unique(self.query_ids, "query ids")
        _require_unique(self.gallery_ids, "gallery ids")
        if (
            self.rows.ndim != 2
            or self.rows.shape != self.scores.shape
            or len(self.rows) != len(self.query_ids)
        ):
            raise ValueError(
                f"rows and scores must be [Q, k] for {len(self.query_ids)} queries. "
                f"Received {self.rows.shape} and {self.scores.shape}."
            )
        self._check_rows()
        self._check_scores()

    def __len__(self) -> int:
        return len(self.query_ids)

    @classmethod
    def trusted(
        cls,
        *,
        query_ids: np.ndarray,
        gallery_ids: np.ndarray,
        rows: np.ndarray,
        scores: np.ndarray,
        complete: np.ndarray | None = None,
        provenance: str = "",
    ) -> Ranking:
        """Build a record without checking its content.

        Only for parts that were checked before or are right by construction. The arrays are not
        copied; they become read-only in place.

        Args:
            query_ids: str [Q], unique.
            gallery_ids: str [G], unique.
            rows: int32 [Q, k], gallery rows; -1 pads the end.
            scores: float32 [Q, k], never rising along a row.
            complete: bool [Q]; None means that every query is complete.
            provenance: how the ranking was made.

        Returns:
            A record that shares the given arrays.
        """
        if complete is None:
            complete = np.ones(len(query_ids), bool)
        assert query_ids.dtype.kind == gallery_ids.dtype.kind == "U"
        assert (rows.dtype, scores.dtype, complete.dtype) == (np.int32, np.float32, bool)
        assert rows.ndim == 2
        assert rows.shape == scores.shape
        assert len(rows) == len(query_ids) == len(complete)
        ranking = cls.__new__(cls)
        _set_trusted(
            ranking,
            query_ids=query_ids,
            gallery_ids=gallery_ids,
            rows=rows,
            scores=scores,
            complete=complete,
            provenance=provenance,
        )
        return ranking

    def block(self, queries: slice) -> Ranking:
        """Return the ranking of some of the queries; its arrays are views of this one's."""
        return self.trusted(
            query_ids=self.query_ids[queries],
            gallery_ids=self.gallery_ids,
            rows=self.rows[queries],
            scores=self.scores[queries],
            complete=np.asarray(self.complete)[queries],
            provenance=self.provenance,
        )

    def cut(self, k: int) -> Ranking:
        """Return the first `k` places of each query."""
        return self.trusted(
            query_ids=self.query_ids,
            gallery_ids=self.gallery_ids,
            rows=np.ascontiguousarray(self.rows[:, :k]),
            scores=np.ascontiguousarray(self.scores[:, :k]),
            complete=self.complete,
            provenance=self.provenance,
        )

    @classmethod
    def joined(cls, blocks: Sequence[Ranking]) -> Ranking:
        """Join rankings of different queries over one gallery.

        Args:
            blocks: at least one; all have the same gallery and the same k, no query is in two.

        Returns:
            The ranking of the queries of all blocks, in order.
        """
        columns = {
            name: np.concatenate([getattr(block, name) for block in blocks])
            for name in ("query_ids", "rows", "scores", "complete")
        }
        first = blocks[0]
        return cls.trusted(gallery_ids=first.gallery_ids, provenance=first.provenance, **columns)

    def _check_rows(self) -> None:
        if self.rows.size == 0:
            return
        if self.rows.min() < -1 or self.rows.max() >= len(self.gallery_ids):
            raise ValueError(
                f"rows must lie in -1..{len(self.gallery_ids) - 1}. Received {self.rows.min()}..{self.rows.max()}."
            )
        used = self.rows >= 0
        if (used[:, 1:] & ~used[:, :-1]).any():
            raise ValueError("rows: -1 may only pad the end of a ranking.")
        ordered = np.sort(self.rows, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            raise ValueError("rows: an image may appear only once in a ranking.")

    def _check_scores(self) -> None:
        used = self.rows >= 0
        if not np.isfinite(self.scores[used]).all():
            raise ValueError("scores must be finite.")
        if ((self.scores[:, 1:] > self.scores[:, :-1]) & used[:, 1:]).any():
            raise ValueError("scores must never rise along a ranking: higher is nearer.")


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """Per query the gallery rows that are relevant, and those that count neither way (junk: the query's own photograph)."""

    query_ids: np.ndarray
    num_gallery: int
    relevant: tuple[np.ndarray, ...]
    junk: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        _set(
            self,
            query_ids=_texts(self.query_ids),
            relevant=tuple(_readonly(np.unique(rows), np.int64) for rows in self.relevant),
            junk=tuple(_readonly(np.unique(rows), np.int64) for rows in self.junk),
        )
        if not len(self.query_ids) == len(self.relevant) == len(self.junk):
            raise ValueError(
                f"one relevant and one junk list per query. "
                f"Received {len(self.relevant)} and {len(self.junk)} for {len(self.query_ids)} queries."
            )
        for query_id, relevant, junk in zip(self.query_ids, self.relevant, self.junk, strict=True):
            if any(
                rows.size and (rows[0] < 0 or rows[-1] >= self.num_gallery)
                for rows in (relevant, junk)
            ):
                raise ValueError(f"rows of {query_id} must lie in 0..{self.num_gallery - 1}.")
            if np.intersect1d(relevant, junk).size:
                raise ValueError(f"{query_id}: a gallery row is both relevant and junk.")

    def __len__(self) -> int:
        return len(self.query_ids)

    def of(self, query_ids: np.ndarray) -> GroundTruth:
        """That of some of the queries, in the order of `query_ids`."""
        row_of = {str(name): row for row, name in enumerate(self.query_ids)}
        rows = [row_of[str(name)] for name in query_ids]
        return GroundTruth(
            query_ids,
            self.num_gallery,
            tuple(self.relevant[row] for row in rows),
            tuple(self.junk[row] for row in rows),
        )

    @classmethod
    def from_labels(cls, query: ImageList, gallery: ImageList) -> GroundTruth:
        """Relevant: the same label. Junk: the query's own file, where the gallery holds it.

        Raises: ValueError when either list has no labels.
        """
        labels, gallery_labels = (
            query.known_labels("ground truth"),
            gallery.known_labels("ground truth"),
        )
        by_label = {label: np.flatnonzero(gallery_labels == label) for label in np.unique(labels)}
        row_of_path: dict[str, list[int]] = {}
        for row, path in enumerate(gallery.paths):
            row_of_path.setdefault(path, []).append(row)
        junk = [np.asarray(row_of_path.get(path, []), np.int64) for path in query.paths]
        relevant = [
            np.setdiff1d(by_label[label], own) for label, own in zip(labels, junk, strict=True)
        ]
        return cls(query.ids, len(gallery), tuple(relevant), tuple(junk))
