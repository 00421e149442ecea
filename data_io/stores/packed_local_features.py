"""Local features as rows of packed records: what a store keeps on disk, and how descriptors are rounded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_io.records import DESCRIPTOR_TOLERANCE, INT8_STEPS, ImageKeypoints, LocalFeatures

DTYPES = ("float16", "int8")


def record_dtype(dimension: int, dtype: str) -> np.dtype:
    """One feature on disk, little-endian and packed. Raises: ValueError for a dtype or a dimension that cannot be."""
    if dtype not in DTYPES or dimension < 1:
        raise ValueError(
            f"descriptors must be {' or '.join(DTYPES)}, of at least 1 dimension. Received {dtype}, {dimension}."
        )
    columns = [("keypoints_px", "<f4", (2,)), ("scales_px", "<f4"), ("attention", "<f4")]
    return np.dtype([*columns, ("descriptors", np.dtype(dtype).newbyteorder("<"), (dimension,))])


def packed(features: ImageKeypoints, record: np.dtype) -> np.ndarray:
    """The features of one image [M] as records, descriptors rounded to the nearest step.

    Raises: ValueError for another dimension, or where rounding leaves less than a reader accepts (int8, very many dimensions).
    """
    rows = np.zeros(len(features), record)
    stored = rows["descriptors"]
    if features.descriptors.shape != stored.shape:
        raise ValueError(
            f"descriptors must be {list(stored.shape)}. Received {list(features.descriptors.shape)}."
        )
    steps = INT8_STEPS if stored.dtype == np.int8 else 1
    scaled = features.descriptors * np.float32(steps)
    stored[:] = np.clip(np.rint(scaled), -steps, steps) if steps > 1 else scaled
    lengths = np.linalg.norm(stored.astype(np.float32) / np.float32(steps), axis=1)
    if (np.abs(lengths - 1.0) > DESCRIPTOR_TOLERANCE).any():
        raise ValueError(
            f"descriptors lose their unit length as {stored.dtype}; choose float16, or fewer dimensions."
        )
    for name in ("keypoints_px", "scales_px", "attention"):
        rows[name] = getattr(features, name)
    return rows


def local_features(
    ids: Sequence[str],
    counts: Sequence[int],
    sizes_px: Sequence[tuple[int, int]],
    rows: np.ndarray,
    digest: str,
) -> LocalFeatures:
    """The records of many images, one behind the other, as columns: views of `rows` where these are read-only."""
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    columns = {name: rows[name] for name in rows.dtype.names or ()}
    return LocalFeatures(
        np.array(ids, str),
        offsets,
        np.reshape(np.array(sizes_px, np.int32), (-1, 2)),
        **columns,
        digest=digest,
    )


def in_memory(
    ids: Sequence[str], features: Sequence[ImageKeypoints], digest: str = "", dtype: str = "float16"
) -> LocalFeatures:
    """The same record without a folder, rounded as a store rounds. Raises: ValueError when dimensions differ."""
    record = record_dtype(features[0].descriptors.shape[1] if features else 1, dtype)
    rows = np.concatenate([np.zeros(0, record), *(packed(one, record) for one in features)])
    return local_features(
        ids, [len(one) for one in features], [one.size_px for one in features], rows, digest
    )
