"""What every benchmark does: the time of one call, medians, and results on disk with what made them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

Seconds = tuple[float, float]  # wall, CPU of all threads
PACKAGES = (
    "numpy",
    "numba",
    "scipy",
    "tensorflow",
    "opencv-python-headless",
    "scikit-image",
    "faiss-cpu",
)
PACKAGES += ("openvino", "onnxruntime", "torch", "pillow")


def timed(work: Callable[[], Any]) -> tuple[Any, Seconds]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def medians(times: Sequence[Seconds]) -> Seconds:
    wall, cpu = (statistics.median(column) for column in zip(*times))
    return wall, cpu


def write_results(path: str | None, seed: int, results: Any, **options: Any) -> None:
    """JSON with commit, versions of what is installed, machine and seed; nothing without a path."""
    if not path:
        return
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    installed = {name: _version(name) for name in PACKAGES}
    versions = {
        "python": platform.python_version(),
        **{name: version for name, version in installed.items() if version},
    }
    about = {
        "commit": commit,
        "versions": versions,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "seed": seed,
    }
    with open(path, "w") as file:
        json.dump({**about, **options, "results": results}, file, indent=1)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
