"""Compare k-reciprocal re-ranking with the dense procedure of the paper, as the data grow.

    python benchmarks/rerank.py [--sizes 1000 2000 4000] [--rounds=5] [--top_k=100]
        [--json=rerank.json]

A size is N images; a fifth of them are queries. Embeddings have 512 dimensions and are drawn around
N / 20 centres in 24 dimensions, so close that the clusters overlap. k1 = 20, k2 = 6, lambda = 0.3.

- `ours`: re-ranks the first --top_k images (0: all) of an exact search, which is not timed
- `dense`: the paper in float32 NumPy, which always orders the whole gallery
- `product`: one N x N x 512 product in float32

Each measurement runs in a process of its own, to measure its peak of memory: the bytes added to
data and imports. Compiling is not timed.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Work, build_parser, timed_with_memory, write_results

from data_io.records import GlobalFeatures
from delf_ext.index.exact import search
from delf_ext.reranking.k_reciprocal import rerank_k_reciprocal

SEED = 0
NUM_DIMS = 512
LATENT_DIMS = 24
SPREAD = 0.7
QUERY_SHARE = 0.2
K1 = 20
K2 = 6
LAMBDA = 0.3
CONTENDERS = ("ours", "dense", "product")


def draw_features(
    num_queries: int, num_gallery: int, seed: int = SEED
) -> tuple[GlobalFeatures, GlobalFeatures]:
    """Draw queries and gallery around shared centres."""
    rng = np.random.default_rng(seed)
    num_images = num_queries + num_gallery
    centres = rng.standard_normal((max(1, num_images // 20), LATENT_DIMS))
    latent = centres[rng.integers(len(centres), size=num_images)]
    latent = latent + SPREAD * rng.standard_normal((num_images, LATENT_DIMS))
    embeddings = (latent @ rng.standard_normal((LATENT_DIMS, NUM_DIMS))).astype(np.float32)
    embeddings += rng.standard_normal(embeddings.shape, np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    ids = np.arange(num_images).astype(str)
    query = GlobalFeatures(ids[:num_queries], embeddings[:num_queries].copy())
    gallery = GlobalFeatures(ids[num_queries:], embeddings[num_queries:].copy())
    return query, gallery


def dense(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Re-rank as the paper describes, with whole matrices.

    Source: Zhong et al. 2017, sections 3.2 to 3.4.

    Args:
        query: float32 [Q, D].
        gallery: float32 [G, D].

    Returns:
        Gallery rows int [Q, G], nearest first.
    """
    embeddings = np.concatenate([query, gallery])
    num_queries = len(query)
    distances = np.maximum(2 - 2 * (embeddings @ embeddings.T), 0)
    distances /= distances.max(axis=1, keepdims=True)
    order = np.argsort(distances, axis=1).astype(np.int32)

    def reciprocal(image: int, k: int) -> np.ndarray:
        first = order[image, : k + 1]
        return first[(order[first, : k + 1] == image).any(axis=1)]

    encodings = np.zeros_like(distances)
    for image in range(len(embeddings)):
        core = reciprocal(image, K1)
        candidates = [reciprocal(member, round(K1 / 2)) for member in core]
        added = [rows for rows in candidates if 3 * np.isin(rows, core).sum() > 2 * len(rows)]
        members = np.unique(np.concatenate([core, *added]))
        weights = np.exp(-distances[image, members])
        encodings[image, members] = weights / weights.sum()
    means = [encodings[order[image, :K2]].mean(axis=0) for image in range(len(embeddings))]
    encodings = np.stack(means)
    holders = [np.flatnonzero(column) for column in encodings.T]
    final = np.empty((num_queries, len(gallery)), np.float32)
    for image in range(num_queries):
        shared = np.zeros(len(embeddings), np.float32)
        for column in np.flatnonzero(encodings[image]):
            others = holders[column]
            shared[others] += np.minimum(encodings[image, column], encodings[others, column])
        jaccard = 1 - shared / (2 - shared)
        final[image] = ((1 - LAMBDA) * jaccard + LAMBDA * distances[image])[num_queries:]
    return np.argsort(final, axis=1, kind="stable")


def product(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Multiply all embeddings with each other in blocks.

    Args:
        query: float32 [Q, D].
        gallery: float32 [G, D].

    Returns:
        int32 [Q, 0], because it ranks nothing.
    """
    embeddings = np.concatenate([query, gallery])
    for start in range(0, len(embeddings), 1024):
        embeddings[start : start + 1024] @ embeddings.T
    return np.zeros((len(query), 0), np.int32)


def build_work(contender: str, num_images: int, top_k: int) -> Work:
    """Return a function that returns the rows of the contender's ranking."""
    num_queries = int(num_images * QUERY_SHARE)
    query, gallery = draw_features(num_queries, num_images - num_queries)
    if contender == "dense":
        return lambda: dense(query.embeddings, gallery.embeddings)
    if contender == "product":
        return lambda: product(query.embeddings, gallery.embeddings)
    small_query, small_gallery = draw_features(50, 50)
    small_ranking = search(small_query, small_gallery)
    # This call compiles.
    rerank_k_reciprocal(small_ranking, small_query, small_gallery, K1, K2, LAMBDA)
    ranking = search(query, gallery, top_k or None)
    return lambda: rerank_k_reciprocal(ranking, query, gallery, K1, K2, LAMBDA).rows


def run_in_child(contender: str, num_images: int, top_k: int, rows_path: str) -> None:
    """Measure one contender; print seconds and bytes as JSON and save the rows."""
    work = build_work(contender, num_images, top_k)
    rows, (wall_s, cpu_s), added_bytes = timed_with_memory(work)
    np.save(rows_path, rows)
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "added_bytes": added_bytes}))


def measure(
    contender: str, num_images: int, top_k: int, folder: Path
) -> tuple[dict[str, float], np.ndarray]:
    """Measure one contender in a child process; return its figures and rows int [Q, k]."""
    rows_path = folder / f"{contender}.npy"
    flags = [
        f"--run={contender}",
        f"--sizes={num_images}",
        f"--top_k={top_k}",
        f"--rows={rows_path}",
    ]
    command = [sys.executable, __file__, *flags]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(child.stdout), np.load(rows_path)


def median_figures(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def compare(num_images: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all contenders at one size and print them."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    rows: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name in CONTENDERS:
                figures, rows[name] = measure(name, num_images, options.top_k, Path(folder))
                runs[name].append(figures)
    medians = {name: median_figures(runs[name]) for name in CONTENDERS}
    ratios = {
        key: medians["dense"][key] / max(medians["ours"][key], 1e-9) for key in medians["ours"]
    }
    # `dense` orders the whole gallery, so only the candidates of `ours` are compared.
    dense_rows = [row[np.isin(row, ours)] for row, ours in zip(rows["dense"], rows["ours"])]
    same_places = float(np.mean(np.array(dense_rows) == rows["ours"]))
    for name, row in medians.items():
        print(
            f"N {num_images:>6}  {name:<8} {row['wall_s']:8.3f} s wall  {row['cpu_s']:8.3f} s CPU  "
            f"{row['added_bytes'] / 1e6:8.1f} MB added"
        )
    print(
        f"          ours: {ratios['wall_s']:.1f}x wall, {ratios['cpu_s']:.1f}x CPU, "
        f"1/{ratios['added_bytes']:.1f} of the memory; "
        f"{same_places:.3%} of the places as in dense (float32)",
        flush=True,
    )
    return {**medians, "ratio": ratios, "same_places": same_places}


def growth(small: int, large: int, results: dict[str, Any]) -> dict[str, float]:
    """Return the exponents with which the figures grow between two sizes, and print them."""
    exponents = {}
    for name in ("ours", "dense"):
        for key in ("wall_s", "cpu_s", "added_bytes"):
            factor = results[str(large)][name][key] / results[str(small)][name][key]
            exponents[f"{name} {key}"] = math.log(factor) / math.log(large / small)
    shown = ", ".join(f"{name} {value:.2f}" for name, value in exponents.items())
    print(f"exponents {small} to {large}: {shown}")
    return exponents


def main() -> None:
    """Run the benchmark, or one measurement in a child process."""
    parser = build_parser(__doc__)
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[1000, 2000, 4000], help="numbers of images")
    add("--top_k", type=int, default=100, help="images to re-rank (default: %(default)s; 0: all)")
    add("--run", choices=CONTENDERS, help=argparse.SUPPRESS)
    add("--rows", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = options.sizes
    if options.run:
        run_in_child(options.run, sizes[0], options.top_k, options.rows)
        return
    results: dict[str, Any] = {str(size): compare(size, options) for size in sizes}
    for small, large in zip(sizes, sizes[1:]):
        results[f"exponents {small} to {large}"] = growth(small, large, results)
    write_results(options.json, SEED, results, rounds=options.rounds, top_k=options.top_k)


if __name__ == "__main__":
    main()
