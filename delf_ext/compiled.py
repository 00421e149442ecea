"""numba as this project uses it: no lock held, no arithmetic reordered, so the same bits on every machine with any threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable, **options: Any) -> Any:
    """Compiled at its first call and kept beside its file, or in the user's cache folder; where neither can be written, for this
    process alone."""
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # "no locator available": a read-only container without a home
        return njit(**options)(function)
