"""Convert and check the arrays of a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def set_fields(record: Any, **values: Any) -> None:
    """Set fields of a frozen dataclass while it is being made."""
    for name, value in values.items():
        object.__setattr__(record, name, value)


def set_trusted_fields(record: Any, **values: Any) -> None:
    """Set fields without checking them; arrays become read-only in place, without a copy."""
    for value in values.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    set_fields(record, **values)


def readonly(values: Any, dtype: Any) -> np.ndarray:
    """Return the values as a read-only array that no other code can write to.

    Args:
        values: an array or a sequence, any shape.
        dtype: of the result; None keeps the one of `values`.

    Returns:
        `values` itself if it is read-only and owns its memory, otherwise a copy of the same shape.
    """
    array = np.asarray(values, dtype=dtype)
    if array.base is None and not array.flags.writeable:
        return array
    if array is values or array.base is not None:
        array = array.copy()
    array.setflags(write=False)
    return array


def readonly_texts(values: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return the values as a read-only array of strings.

    Args:
        values: str [N]; any dtype if N is 0.

    Returns:
        str [N].
    """
    return readonly(np.asarray(values, dtype=str) if len(values) else np.zeros(0, "<U1"), None)


def readonly_or_mapped(values: np.ndarray, dtypes: Sequence[Any], name: str) -> np.ndarray:
    """Return `values` if read-only (it may be memory-mapped), otherwise a read-only copy.

    Args:
        values: any shape.
        dtypes: the accepted types.
        name: of the column, for the error.

    Returns:
        A read-only array of the same shape and dtype.

    Raises:
        ValueError: `values` has another dtype.
    """
    if values.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        accepted = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise ValueError(f"{name} must be {accepted}. Received {values.dtype}.")
    return readonly(values, values.dtype) if values.flags.writeable else values


def has_unit_length(vectors: np.ndarray, tolerance: float = 1e-3) -> np.ndarray:
    """Check the length of each vector.

    Args:
        vectors: float [N, D].
        tolerance: largest allowed difference from 1.

    Returns:
        bool [N]; False for vectors with NaN.
    """
    return np.abs(np.linalg.norm(vectors, axis=1) - 1.0) <= tolerance


def require_unique(ids: np.ndarray, name: str) -> None:
    """Check that no id appears twice.

    Args:
        ids: str [N].
        name: what the ids are, for the error.

    Raises:
        ValueError: an id appears twice.
    """
    unique, counts = np.unique(ids, return_counts=True)
    if len(unique) != len(ids):
        repeated = ", ".join(unique[counts > 1][:3])
        raise ValueError(f"{name} must be unique. Received twice: {repeated}.")
