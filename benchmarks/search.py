"""Compare exact search with faiss' IndexFlatIP.

    python benchmarks/search.py [--workloads 1000x60000x512 256x1000000x128] [--top_k=100]
        [--rounds=5] [--json=search.json]

A workload is queries x gallery x dimensions. The embeddings are drawn around gallery / 20 centres
in 24 dimensions, with noise in all. The contenders:

- `float32`, `float16`, `int8`: our search, with the gallery stored in this type; the results must
  be equal bit for bit
- `faiss`: IndexFlatIP, which sums in float32 and gives ties in any order
- `sgemm`: only the product of queries and gallery, by NumPy's BLAS in tiles that fit the cache

Memory: `held` is the gallery in memory, `added` the peak that a search adds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from measuring import Seconds, Work, build_parser, medians, timed_with_memory, write_results

from data_io.records import GlobalFeatures, Ranking
from delf_ext.index.compact import compact_gallery, search_compact
from delf_ext.index.exact import search
from delf_ext.index.shortlist import tile_rows

SEED = 0
LATENT_DIMS = 24
SPREAD = 0.7
ROWS_PER_BLOCK = 2**16


def draw_embeddings(
    num_images: int, centres: np.ndarray, mixing: np.ndarray, rng: np.random.Generator
) -> GlobalFeatures:
    """Draw embeddings around centres.

    Args:
        num_images: N.
        centres: float32 [C, 24].
        mixing: float32 [24, D], maps to D dimensions.
        rng: draws.

    Returns:
        Embeddings [N, D].
    """
    embeddings = np.empty((num_images, mixing.shape[1]), np.float32)
    # In blocks, to need little memory besides the result.
    for start in range(0, num_images, ROWS_PER_BLOCK):
        block = embeddings[start : start + ROWS_PER_BLOCK]
        latent = centres[rng.integers(len(centres), size=len(block))]
        latent += SPREAD * rng.standard_normal(latent.shape, np.float32)
        block[:] = latent @ mixing + rng.standard_normal(block.shape, np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    embeddings.setflags(write=False)
    return GlobalFeatures(np.arange(num_images).astype(str), embeddings)


def multiply_in_tiles(query: np.ndarray, gallery: np.ndarray) -> None:
    """Multiply float32 [Q, D] by float32 [G, D] transposed, and drop the products."""
    step = tile_rows(len(query))
    products = np.empty((len(query), step), np.float32)
    for start in range(0, len(gallery), step):
        tile = gallery[start : start + step]
        np.matmul(query, tile.T, out=products[:, : len(tile)])


def contenders(
    query: GlobalFeatures, gallery: GlobalFeatures, top_k: int
) -> tuple[dict[str, Work], dict[str, int]]:
    """Return the work of each contender, and the bytes of its gallery in memory."""
    try:
        import faiss
    except ModuleNotFoundError:
        raise SystemExit(
            "benchmarks/search.py compares with faiss: pip install faiss-cpu"
        ) from None
    index = faiss.IndexFlatIP(gallery.embeddings.shape[1])
    index.add(gallery.embeddings)
    float16 = compact_gallery(gallery, "float16")
    int8 = compact_gallery(gallery, "int8")
    searches: dict[str, Work] = {
        "float32": lambda: search(query, gallery, top_k),
        "float16": lambda: search_compact(query, float16, top_k),
        "int8": lambda: search_compact(query, int8, top_k),
        "faiss": lambda: index.search(query.embeddings, top_k),
        "sgemm": lambda: multiply_in_tiles(query.embeddings, gallery.embeddings),
    }
    held = {name: gallery.embeddings.nbytes for name in searches}
    for name, compact in (("float16", float16), ("int8", int8)):
        held[name] = compact.codes.nbytes + compact.scales.nbytes + compact.errors.nbytes
    return searches, held


def compare(
    num_queries: int, num_gallery: int, num_dims: int, top_k: int, rounds: int
) -> dict[str, Any]:
    """Measure all contenders on one workload and print them."""
    rng = np.random.default_rng(SEED)
    centres = rng.standard_normal((max(1, num_gallery // 20), LATENT_DIMS), np.float32)
    mixing = rng.standard_normal((LATENT_DIMS, num_dims), np.float32)
    query = draw_embeddings(num_queries, centres, mixing, rng)
    gallery = draw_embeddings(num_gallery, centres, mixing, rng)
    searches, held = contenders(query, gallery, top_k)
    # This run also compiles.
    results = {name: run() for name, run in searches.items()}
    times: dict[str, list[Seconds]] = {name: [] for name in searches}
    added = dict.fromkeys(searches, 0)
    for _ in range(rounds):
        for name, run in searches.items():
            _, seconds, added_bytes = timed_with_memory(run)
            times[name].append(seconds)
            added[name] = max(added[name], added_bytes)
    compact = [results["float16"], results["int8"]]
    faiss_similarities, faiss_rows = results["faiss"]
    agreement = compare_results(results["float32"], compact, faiss_similarities, faiss_rows)
    rows = {}
    for name in searches:
        wall, cpu = medians(times[name])
        rows[name] = {
            "wall_s": wall,
            "cpu_s": cpu,
            "held_bytes": held[name],
            "added_bytes": added[name],
        }
    print(f"{num_queries} x {num_gallery} x {num_dims}, top {top_k}")
    print_comparison(rows, agreement)
    return {**rows, **agreement}


def compare_results(
    ours: Ranking, compact: list[Ranking], similarities: np.ndarray, rows: np.ndarray
) -> dict[str, Any]:
    """Compare our ranking with those of compact galleries and of faiss.

    Args:
        ours: of the float32 gallery.
        compact: of the other galleries.
        similarities: float32 [Q, k] of faiss.
        rows: int [Q, k] of faiss.

    Returns:
        Figures by name.
    """
    is_equal = all(
        np.array_equal(ours.rows, other.rows) and np.array_equal(ours.scores, other.scores)
        for other in compact
    )
    shared = [len(np.intersect1d(*pair)) / len(pair[0]) for pair in zip(ours.rows, rows)]
    return {
        "storages_same_bits": is_equal,
        "faiss_same_rows": float(np.mean(ours.rows == rows)),
        "faiss_same_sets": float(np.mean(shared)),
        "faiss_largest_difference": float(np.abs(ours.scores - similarities).max()),
    }


def print_comparison(rows: dict[str, dict[str, float]], agreement: dict[str, Any]) -> None:
    """Print figures and ratios of each contender, and how well the results agree."""
    for name, row in rows.items():
        wall, cpu = (
            f"{row[key] / rows['faiss'][key]:.2f}x faiss, "
            f"{row[key] / rows['sgemm'][key]:.2f}x sgemm"
            for key in ("wall_s", "cpu_s")
        )
        print(
            f"  {name:<8} {row['wall_s']:7.3f} s wall ({wall})  {row['cpu_s']:7.3f} s CPU ({cpu})  "
            f"{row['held_bytes'] / 1e6:7.1f} MB held  {row['added_bytes'] / 1e6:6.1f} MB added"
        )
    outcome = "the same bits" if agreement["storages_same_bits"] else "DIFFERENT RESULTS"
    print(f"  float32, float16 and int8 give {outcome}")
    print(
        f"  faiss: {agreement['faiss_same_rows']:.3%} of the places hold the same row, "
        f"{agreement['faiss_same_sets']:.3%} of the rows are found; similarities differ by at most "
        f"{agreement['faiss_largest_difference']:.1e}",
        flush=True,
    )


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__)
    default_workloads = ["1000x60000x512", "256x1000000x128"]
    workloads_help = "queries x gallery x dimensions of each"
    parser.add_argument("--workloads", nargs="+", default=default_workloads, help=workloads_help)
    top_k_help = "results per query (default: %(default)s)"
    parser.add_argument("--top_k", type=int, default=100, help=top_k_help)
    options = parser.parse_args()
    results = {}
    for workload in options.workloads:
        sizes = [int(size) for size in workload.split("x")]
        if len(sizes) != 3:
            raise SystemExit(
                "--workloads must be queries x gallery x dimensions, e.g. 1000x60000x512. "
                f"Received {workload}."
            )
        results[workload] = compare(*sizes, options.top_k, options.rounds)
    write_results(options.json, SEED, results, top_k=options.top_k, rounds=options.rounds)


if __name__ == "__main__":
    main()
