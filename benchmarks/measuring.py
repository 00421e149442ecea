"""Measure time and memory for the benchmarks, and write their results."""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.metadata
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_io.files.artifacts import write_json
from data_io.files.output_files import home_path

# Wall seconds, and CPU seconds of all threads.
Seconds = tuple[float, float]
Work = Callable[[], Any]
LARGEST = 1_000_000_000
PACKAGES = (
    "numpy",
    "numba",
    "scipy",
    "tensorflow",
    "opencv-python-headless",
    "scikit-image",
    "faiss-cpu",
    "openvino",
    "onnxruntime",
    "torch",
    "pillow",
)


MAY_BE_0 = ("seed", "top_k", "frozen_images", "shifts")
"""Flags of the benchmarks that accept 0; any other number must be above 0."""


class _Parser(argparse.ArgumentParser):
    """Parser that refuses numbers that no benchmark can use."""

    def parse_args(self, *arguments: Any) -> Any:
        options = super().parse_args(*arguments)
        for name, value in vars(options).items():
            for number in value if isinstance(value, list) else [value]:
                if not isinstance(number, (int, float)) or isinstance(number, bool):
                    continue
                is_large_enough = number > 0 or (number == 0 and name in MAY_BE_0)
                if not (is_large_enough and number <= LARGEST):
                    least = "at least 0" if name in MAY_BE_0 else "above 0"
                    self.error(
                        f"--{name} must be {least} and at most {LARGEST}. Received {number}."
                    )
        return options


def build_parser(description: str | None, rounds: int = 5) -> argparse.ArgumentParser:
    """Build a parser with the flags that every benchmark has.

    Args:
        description: docstring of the benchmark.
        rounds: default of --rounds.

    Returns:
        The parser.
    """
    parser = _Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    rounds_help = "measurements of each contender; medians are printed (default: %(default)s)"
    parser.add_argument("--rounds", type=int, default=rounds, help=rounds_help)
    json_help = "write the results to this file"
    parser.add_argument("--json", type=home_path, metavar="FILE", help=json_help)
    return parser


def timed(work: Work) -> tuple[Any, Seconds]:
    """Run `work` once; return its result and its seconds."""
    wall = time.perf_counter()
    cpu = time.process_time()
    result = work()
    return result, (time.perf_counter() - wall, time.process_time() - cpu)


def timed_with_memory(work: Work) -> tuple[Any, Seconds, int]:
    """Run `work` once, and measure its time and memory.

    Linux only: the peak of the resident set is reset, and read from /proc.

    Args:
        work: what to run.

    Returns:
        Its result, its wall and CPU seconds, and the bytes that it adds to the peak.
    """
    gc.collect()
    # Otherwise the work could reuse freed memory, and would seem to add nothing.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    result, seconds = timed(work)
    return result, seconds, _status_bytes("VmHWM") - before


def medians(times: Sequence[Seconds]) -> Seconds:
    """Return the median of wall seconds and the median of CPU seconds."""
    wall, cpu = (statistics.median(column) for column in zip(*times))
    return wall, cpu


def interleaved(
    contenders: Mapping[str, Work],
    rounds: int,
    num_warmups: int = 1,
    prepare: Callable[[str], None] | None = None,
) -> dict[str, Seconds]:
    """Run the contenders in turn, so that a change of the machine's load affects all of them.

    Args:
        contenders: name -> work.
        rounds: measurements of each contender.
        num_warmups: rounds that are not measured, for compiling and filling caches.
        prepare: called with the name before each run, not timed.

    Returns:
        Name -> median seconds.
    """
    times: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for round_number in range(-num_warmups, rounds):
        for name, work in contenders.items():
            if prepare is not None:
                prepare(name)
            _, seconds = timed(work)
            if round_number >= 0:
                times[name].append(seconds)
    return {name: medians(pairs) for name, pairs in times.items()}


def write_results(path: str | None, seed: int, results: Any, **options: Any) -> None:
    """Write results as JSON, with commit, versions, machine and seed; nothing without a path."""
    if not path:
        return
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    installed = {name: _version(name) for name in PACKAGES}
    versions = {name: version for name, version in installed.items() if version}
    about = {
        "commit": commit,
        "versions": {"python": platform.python_version(), **versions},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "seed": seed,
    }
    write_json(path, {**about, **options, "results": results})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _status_bytes(field: str) -> int:
    """Return VmRSS (resident memory) or VmHWM (its peak) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
