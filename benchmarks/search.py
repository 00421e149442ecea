"""Exact search, ours against faiss' IndexFlatIP, in turn in one run.

    python benchmarks/search.py [--workloads 1000x60000x512 256x1000000x128] [--top_k=100] [--rounds=5] [--json=search.json]

A workload is queries x gallery x dimensions. Embeddings are drawn about gallery / 20 centres in 24 dimensions with noise in all,
the queries like the gallery. Contenders: ours with the gallery in float32, float16 and int8 (all three give the same bits, which
is checked; the Ranking's own checks of its ids are timed with them); IndexFlatIP (float32 sums, ties as they come); and `sgemm`,
the product of queries and gallery alone by NumPy's BLAS, in tiles that stay in cache. Medians of wall and CPU seconds (all
threads). Memory: `held` is the gallery in memory, `added` the peak that a search adds to it. Compiling is not timed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Seconds, medians, timed, write_results

from data_io.records import GlobalFeatures, Ranking
from delf_ext.index.compact import compact_gallery, search_compact
from delf_ext.index.exact import search
from delf_ext.index.shortlist import tile_rows

SEED, LATENT_DIMS, SPREAD = 0, 24, 0.7
DRAWN_AT_ONCE = 2**16
Work = Callable[[], Any]


def drawn(
    num_images: int, centres: np.ndarray, mixing: np.ndarray, rng: np.random.Generator
) -> GlobalFeatures:
    embeddings = np.empty((num_images, mixing.shape[1]), np.float32)
    for start in range(0, num_images, DRAWN_AT_ONCE):
        part = embeddings[start : start + DRAWN_AT_ONCE]
        latent = centres[rng.integers(len(centres), size=len(part))]
        latent += SPREAD * rng.standard_normal(latent.shape, np.float32)
        part[:] = latent @ mixing + rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    embeddings.setflags(write=False)
    return GlobalFeatures(np.arange(num_images).astype(str), embeddings)


def product(query: np.ndarray, gallery: np.ndarray) -> None:
    step = tile_rows(len(query))
    products = np.empty((len(query), step), np.float32)
    for start in range(0, len(gallery), step):
        tile = gallery[start : start + step]
        np.matmul(query, tile.T, out=products[:, : len(tile)])


def contenders(
    query: GlobalFeatures, gallery: GlobalFeatures, top_k: int
) -> tuple[dict[str, Work], dict[str, int]]:
    """What each does, and the bytes of the gallery that it holds in memory."""
    try:
        import faiss
    except ModuleNotFoundError:
        raise SystemExit(
            "benchmarks/search.py compares with faiss: pip install faiss-cpu"
        ) from None
    index = faiss.IndexFlatIP(gallery.embeddings.shape[1])
    index.add(gallery.embeddings)
    halves, bytes_ = (compact_gallery(gallery, dtype) for dtype in ("float16", "int8"))
    work: dict[str, Work] = {
        "float32": lambda: search(query, gallery, top_k),
        "float16": lambda: search_compact(query, halves, top_k),
        "int8": lambda: search_compact(query, bytes_, top_k),
        "faiss": lambda: index.search(query.embeddings, top_k),
        "sgemm": lambda: product(query.embeddings, gallery.embeddings),
    }
    held = {name: gallery.embeddings.nbytes for name in work}
    for name, compact in (("float16", halves), ("int8", bytes_)):
        held[name] = compact.codes.nbytes + compact.scales.nbytes + compact.errors.nbytes
    return work, held


def status_bytes(field: str) -> int:
    """A line of Linux' /proc/self/status: VmRSS, memory now; VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def compared(
    num_queries: int, num_gallery: int, num_dims: int, top_k: int, rounds: int
) -> dict[str, Any]:
    rng = np.random.default_rng(SEED)
    centres = rng.standard_normal((max(1, num_gallery // 20), LATENT_DIMS), np.float32)
    mixing = rng.standard_normal((LATENT_DIMS, num_dims), np.float32)
    query, gallery = (drawn(num, centres, mixing, rng) for num in (num_queries, num_gallery))
    work, held = contenders(query, gallery, top_k)
    results = {name: run() for name, run in work.items()}  # compiles, and warms up
    times: dict[str, list[Seconds]] = {name: [] for name in work}
    added = dict.fromkeys(work, 0)
    for _ in range(rounds):
        for name, run in work.items():
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # or a search would use again what an earlier one left
            Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
            before = status_bytes("VmRSS")
            times[name].append(timed(run)[1])
            added[name] = max(added[name], status_bytes("VmHWM") - before)
    agreement = agreed(results["float32"], [results["float16"], results["int8"]], *results["faiss"])
    rows = {
        name: {
            **dict(zip(("wall_s", "cpu_s"), medians(times[name]))),
            "held_bytes": held[name],
            "added_bytes": added[name],
        }
        for name in work
    }
    told(f"{num_queries} x {num_gallery} x {num_dims}, top {top_k}", rows, agreement)
    return {**rows, **agreement}


def agreed(
    ours: Ranking, compact: list[Ranking], similarities: np.ndarray, rows: np.ndarray
) -> dict[str, Any]:
    same = all(
        np.array_equal(ours.rows, other.rows) and np.array_equal(ours.scores, other.scores)
        for other in compact
    )
    sets = np.mean([len(np.intersect1d(*pair)) / len(pair[0]) for pair in zip(ours.rows, rows)])
    return {
        "storages_same_bits": same,
        "faiss_same_rows": float(np.mean(ours.rows == rows)),
        "faiss_same_sets": float(sets),
        "faiss_largest_difference": float(np.abs(ours.scores - similarities).max()),
    }


def told(workload: str, rows: dict[str, dict[str, float]], agreement: dict[str, Any]) -> None:
    print(workload)
    for name, row in rows.items():
        ratios = [
            f"{row[key] / rows['faiss'][key]:.2f}x faiss, {row[key] / rows['sgemm'][key]:.2f}x sgemm"
            for key in row
            if "_s" in key
        ]
        print(
            f"  {name:<8} {row['wall_s']:7.3f} s wall ({ratios[0]})  {row['cpu_s']:7.3f} s CPU ({ratios[1]})  "
            f"{row['held_bytes'] / 1e6:7.1f} MB held  {row['added_bytes'] / 1e6:6.1f} MB added"
        )
    print(
        "  float32, float16 and int8 give "
        + ("the same bits" if agreement["storages_same_bits"] else "DIFFERENT RESULTS")
    )
    print(
        f"  faiss: {agreement['faiss_same_rows']:.3%} of the places hold the same row, {agreement['faiss_same_sets']:.3%} of the "
        f"rows are found; similarities differ by at most {agreement['faiss_largest_difference']:.1e}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", default=["1000x60000x512", "256x1000000x128"])
    parser.add_argument("--top_k", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    results = {}
    for workload in options.workloads:
        sizes = [int(size) for size in workload.split("x")]
        if len(sizes) != 3:
            raise SystemExit(
                f"--workloads are queries x gallery x dimensions, as 1000x60000x512. Received {workload}."
            )
        results[workload] = compared(*sizes, options.top_k, options.rounds)
    write_results(options.json, SEED, results, top_k=options.top_k, rounds=options.rounds)


if __name__ == "__main__":
    main()
