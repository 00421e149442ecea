"""Compile functions with numba so that results are the same bits on every machine.

Compiled code releases the GIL and never reorders arithmetic (no fastmath, no parallel loops).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

NUM_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


def compiled(function: Callable, **options: Any) -> Any:
    """Compile a function at its first call; keep the machine code on disk if possible.

    Args:
        function: code that numba can compile.
        **options: passed to `numba.njit`.

    Returns:
        The compiled function. Its cache is beside the source file or in the user's cache folder;
        if neither is writable, each process compiles again.
    """
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # "no locator available": a read-only container without a home directory.
        return numba.njit(**options)(function)
