"""Refuse weights with numbers that no network can use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

VARIANCE = ("moving_variance", "running_var", "running_std")


def fault_of(name: str, values: np.ndarray) -> str:
    """Return what is wrong with the numbers of a weight.

    Args:
        name: of the weight; the statistics of a batch norm have a name that ends in "variance".
        values: any shape and dtype.

    Returns:
        Such as "3 of 512 numbers are NaN"; "" if nothing is wrong.
    """
    values = np.asarray(values)
    if values.dtype.name == "bfloat16":
        values = values.astype(np.float32)
    if values.dtype.kind != "f":
        return ""
    counts = {"NaN": 0, "infinite": 0, "negative": 0}
    if name.split(":")[0].endswith(VARIANCE):
        counts["negative"] = int((values < 0).sum())
    # The sum is fast, and finite in all but a few good arrays.
    with np.errstate(over="ignore", invalid="ignore"):
        is_clear = np.isfinite(values.sum(dtype=np.float64))
    if not is_clear:
        counts["NaN"] = int(np.isnan(values).sum())
        counts["infinite"] = int(np.isinf(values).sum())
    for word, count in counts.items():
        if count:
            return f"{count} of {values.size} numbers are {word}"
    return ""


def require_finite(
    path: str | Path, tensors: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]]
) -> None:
    """Check the numbers of all weights.

    Args:
        path: of the file, for the message.
        tensors: name -> array, or pairs of these; read one after the other.

    Raises:
        ValueError: NaN, infinite numbers, or a negative variance; the message names the first
            weight that has them.
    """
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    faults = ((name, fault_of(name, values)) for name, values in pairs)
    first = next(((name, fault) for name, fault in faults if fault), None)
    if first is not None:
        name, fault = first
        raise ValueError(
            f"{path}: {name}: {fault}. The training that made these weights diverged: "
            "take an earlier checkpoint."
        )
