"""Pack local features into the records that a store keeps on disk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_io.records import (
    DESCRIPTOR_TOLERANCE,
    INT8_STEPS,
    ImageKeypoints,
    LocalFeatures,
    has_unit_length,
)

DTYPES = ("float16", "int8")


def record_dtype(dimension: int, dtype: str) -> np.dtype:
    """Return the dtype of one feature on disk, little-endian and packed.

    Args:
        dimension: of the descriptors.
        dtype: of the descriptors, "float16" or "int8".

    Returns:
        A structured dtype with the columns of LocalFeatures.

    Raises:
        ValueError: `dtype` is unknown or `dimension` is below 1.
    """
    if dtype not in DTYPES or dimension < 1:
        raise ValueError(
            f"descriptors must be {' or '.join(DTYPES)}, of at least 1 dimension. "
            f"Received {dtype}, {dimension}."
        )
    columns = [("keypoints_px", "<f4", (2,)), ("scales_px", "<f4"), ("attention", "<f4")]
    return np.dtype([*columns, ("descriptors", np.dtype(dtype).newbyteorder("<"), (dimension,))])


def packed(features: ImageKeypoints, record: np.dtype) -> np.ndarray:
    """Pack the features of one image; descriptors are rounded to the nearest step.

    Args:
        features: of one image, M of them.
        record: the dtype from `record_dtype`.

    Returns:
        record [M].

    Raises:
        ValueError: the dimension differs, or rounding changes the length of a descriptor too much
            (int8 with very many dimensions).
    """
    rows = np.zeros(len(features), record)
    stored = rows["descriptors"]
    if features.descriptors.shape != stored.shape:
        raise ValueError(
            f"descriptors must be {list(stored.shape)}. "
            f"Received {list(features.descriptors.shape)}."
        )
    if stored.dtype == np.int8:
        steps = INT8_STEPS
        stored[:] = np.clip(np.rint(features.descriptors * np.float32(steps)), -steps, steps)
    else:
        steps = 1
        stored[:] = features.descriptors
    descriptors = stored.astype(np.float32) / np.float32(steps)
    if not has_unit_length(descriptors, DESCRIPTOR_TOLERANCE).all():
        raise ValueError(
            f"descriptors lose their unit length as {stored.dtype}; "
            "choose float16, or fewer dimensions."
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
    """Unpack the records of many images into columns, without a copy if `rows` is read-only.

    Args:
        ids: of N images.
        counts: number of features of each image.
        sizes_px: (width, height) of each image.
        rows: record [T], the features of the first image, then of the second, and so on.
        digest: of the extractor.

    Returns:
        The local features of N images.
    """
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    columns = {name: rows[name] for name in rows.dtype.names or ()}
    return LocalFeatures(
        np.array(ids, str),
        offsets,
        np.reshape(np.array(sizes_px, np.int32), (-1, 2)),
        **columns,
        digest=digest,
    )
