"""Compile functions with numba so that results are the same bits on every machine.

Compiled code releases the GIL and never reorders arithmetic (no fastmath, no parallel loops).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache

NUM_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]


class _Cache(FunctionCache):
    """Machine code on disk. Files that are damaged or cannot be written cost time, not the work."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the stored code for a signature; None if there is none, or it is damaged."""
        try:
            return super().load_overload(sig, target_context)
        # A damaged file raises many types, from EOFError to UnpicklingError.
        except Exception:
            # The index is written again, so that the next process finds good files.
            with contextlib.suppress(Exception):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Store the code for a signature, if possible: the disk may be full or read-only."""
        with contextlib.suppress(Exception):
            super().save_overload(sig, data)


def compiled(function: Callable, **options: Any) -> Any:
    """Compile a function at its first call; keep the machine code on disk if possible.

    Args:
        function: code that numba can compile.
        **options: passed to `numba.njit`.

    Returns:
        The compiled function. Its cache is beside the source file or in the user's cache folder;
        if neither is writable, each process compiles again.
    """
    dispatcher = numba.njit(**{"nogil": True, "error_model": "numpy", **options})(function)
    # Without a cache: "no locator available", in a read-only container without a home directory.
    with contextlib.suppress(RuntimeError):
        # This is what `cache=True` does, with a cache that forgives more.
        dispatcher._cache = _Cache(function)
    return dispatcher
