"""Count the processor cores that this process may use, which in a container are fewer."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""Limit of a container on Linux: microseconds of processor time, "max" for no limit, per period."""


def num_cores(limit_file: Path = CPU_MAX) -> int:
    """Return how many cores this process may use, at least 1.

    Args:
        limit_file: has the limit of the container, as `docker --cpus=2` sets it.

    Returns:
        The number of cores that the process is bound to (`taskset`), or the limit if it is lower.
    """
    if hasattr(os, "sched_getaffinity"):
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    try:
        quota, period = map(int, limit_file.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        # No container, or no limit.
        return available
    return max(1, min(available, math.ceil(quota / max(period, 1))))
