"""k-reciprocal re-ranking, ours against the dense procedure of the paper in float32 NumPy, in turn, as the data grow.

    python benchmarks/rerank.py [--sizes 1000 2000 4000] [--rounds=5] [--top_k=100] [--json=rerank.json]

Queries are a fifth of N, D is 512, k1 20, k2 6, lambda 0.3. Embeddings are drawn about N / 20 centres in 24 dimensions, so near
each other that clusters overlap. Each run is a process of its own, so that its peak of memory is its own: what it added to data
and imports. Contenders are interleaved, medians printed. Ours re-ranks the first --top_k of an exact search (0: all), which is
not timed; the reference orders the whole gallery by its nature. Both start from the same embeddings. Compiling is not timed.
`product` is one N x N x 512 product of float32 in blocks, to compare with.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import write_results

from data_io.records import GlobalFeatures
from delf_ext.index.exact import search
from delf_ext.reranking.k_reciprocal import rerank_k_reciprocal

SEED, NUM_DIMS, LATENT_DIMS, SPREAD, QUERY_SHARE = 0, 512, 24, 0.7, 0.2
K1, K2, LAMBDA = 20, 6, 0.3
CONTENDERS = ("ours", "dense", "product")
Work = Callable[[], np.ndarray]


def drawn(
    num_queries: int, num_gallery: int, seed: int = SEED
) -> tuple[GlobalFeatures, GlobalFeatures]:
    """Queries and gallery."""
    rng, num_images = np.random.default_rng(seed), num_queries + num_gallery
    centres = rng.standard_normal((max(1, num_images // 20), LATENT_DIMS))
    latent = centres[rng.integers(len(centres), size=num_images)] + SPREAD * rng.standard_normal(
        (num_images, LATENT_DIMS)
    )
    embeddings = (latent @ rng.standard_normal((LATENT_DIMS, NUM_DIMS))).astype(np.float32)
    embeddings += rng.standard_normal(embeddings.shape, np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    ids, parts = np.arange(num_images).astype(str), (slice(num_queries), slice(num_queries, None))
    query, gallery = (GlobalFeatures(ids[part], embeddings[part].copy()) for part in parts)
    return query, gallery


def dense(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """The paper written out (Zhong et al. 2017, sections 3.2 to 3.4), whole matrices of float32; gallery rows [Q, G] in order."""
    embeddings, num_queries = np.concatenate([query, gallery]), len(query)
    distances = np.maximum(2 - 2 * (embeddings @ embeddings.T), 0)
    distances /= distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1).astype(np.int32)

    def reciprocal(image: int, k: int) -> np.ndarray:
        first = order[image, : k + 1]
        return first[(order[first, : k + 1] == image).any(axis=1)]

    encodings = np.zeros_like(distances)
    for image in range(len(embeddings)):
        core = reciprocal(image, K1)
        halves = [reciprocal(member, round(K1 / 2)) for member in core]
        fitting = [half for half in halves if 3 * np.isin(half, core).sum() > 2 * len(half)]
        members = np.unique(np.concatenate([core, *fitting]))
        weights = np.exp(-distances[image, members])
        encodings[image, members] = weights / weights.sum()
    encodings = np.stack(
        [encodings[order[image, :K2]].mean(axis=0) for image in range(len(embeddings))]
    )
    holders = [np.flatnonzero(column) for column in encodings.T]
    final = np.empty((num_queries, len(gallery)), np.float32)
    for image in range(num_queries):
        shared = np.zeros(len(embeddings), np.float32)
        for column in np.flatnonzero(encodings[image]):
            shared[holders[column]] += np.minimum(
                encodings[image, column], encodings[holders[column], column]
            )
        jaccard = 1 - shared / (2 - shared)
        final[image] = ((1 - LAMBDA) * jaccard + LAMBDA * distances[image])[num_queries:]
    return np.argsort(final, axis=1, kind="stable")


def product(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    embeddings = np.concatenate([query, gallery])
    for start in range(0, len(embeddings), 1024):
        embeddings[start : start + 1024] @ embeddings.T
    return np.zeros((len(query), 0), np.int32)


def prepared(contender: str, num_images: int, top_k: int) -> Work:
    num_queries = int(num_images * QUERY_SHARE)
    query, gallery = drawn(num_queries, num_images - num_queries)
    if contender != "ours":
        return lambda: {"dense": dense, "product": product}[contender](
            query.embeddings, gallery.embeddings
        )
    small = [
        GlobalFeatures(part.ids[:50], part.embeddings[:50].copy()) for part in (query, gallery)
    ]
    rerank_k_reciprocal(search(*small), *small, K1, K2, LAMBDA)  # compiles
    ranking = search(query, gallery, top_k or None)
    return lambda: rerank_k_reciprocal(ranking, query, gallery, K1, K2, LAMBDA).rows


def status_bytes(field: str) -> int:
    """A line of Linux' /proc/self/status: VmRSS, memory now; VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def run(contender: str, num_images: int, top_k: int, rows_path: str) -> None:
    """What a child process does: one JSON line with seconds and bytes, the rows beside it."""
    work = prepared(contender, num_images, top_k)
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
    before = status_bytes("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    rows = work()
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    np.save(rows_path, rows)
    print(json.dumps({**spent, "added_bytes": status_bytes("VmHWM") - before}))


def measured(
    contender: str, num_images: int, top_k: int, folder: Path
) -> tuple[dict[str, float], np.ndarray]:
    rows_path = folder / f"{contender}.npy"
    arguments = [
        f"--run={contender}",
        f"--sizes={num_images}",
        f"--top_k={top_k}",
        f"--rows={rows_path}",
    ]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout), np.load(rows_path)


def compared(num_images: int, options: argparse.Namespace) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    rows: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name in CONTENDERS:
                numbers, rows[name] = measured(name, num_images, options.top_k, Path(folder))
                runs[name].append(numbers)
    medians = {
        name: {key: statistics.median(run[key] for run in runs[name]) for key in runs[name][0]}
        for name in CONTENDERS
    }
    ratios = {
        key: medians["dense"][key] / max(medians["ours"][key], 1e-9) for key in medians["ours"]
    }
    # The reference orders the whole gallery: of this, the candidates that we were given, in its order.
    kept = [line[np.isin(line, own)] for line, own in zip(rows["dense"], rows["ours"])]
    same = float(np.mean(np.array(kept) == rows["ours"]))
    for name, row in medians.items():
        print(
            f"N {num_images:>6}  {name:<8} {row['wall_s']:8.3f} s wall  {row['cpu_s']:8.3f} s CPU  "
            f"{row['added_bytes'] / 1e6:8.1f} MB added"
        )
    memory = f"1/{ratios['added_bytes']:.1f} of the memory"
    told = f"{ratios['wall_s']:.1f}x wall, {ratios['cpu_s']:.1f}x CPU, {memory}"
    print(
        f"          ours: {told}; {same:.3%} of the places as in the reference (float32)",
        flush=True,
    )
    return {**medians, "ratio": ratios, "same_places": same}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--top_k", type=int, default=100)
    parser.add_argument("--json")
    parser.add_argument("--run", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run(options.run, options.sizes[0], options.top_k, options.rows)
    results: dict[str, Any] = {str(size): compared(size, options) for size in options.sizes}
    sizes = options.sizes
    for small, large in zip(sizes, sizes[1:]):
        growth = {
            f"{name} {key}": math.log(
                results[str(large)][name][key] / results[str(small)][name][key]
            )
            / math.log(large / small)
            for name in ("ours", "dense")
            for key in ("wall_s", "cpu_s", "added_bytes")
        }
        results[f"exponents {small} to {large}"] = growth
        print(
            f"exponents {small} to {large}: "
            + ", ".join(f"{name} {value:.2f}" for name, value in growth.items())
        )
    write_results(options.json, SEED, results, rounds=options.rounds, top_k=options.top_k)


if __name__ == "__main__":
    main()
