"""Measure the re-ranking chain at the size of the challenge's final round.

    python benchmarks/final_round.py [--queries=18000] [--gallery=60000] [--json=final_round.json]
    python benchmarks/final_round.py --growth 0.125 0.25 0.5 1
    python benchmarks/final_round.py --time_budget=60

The first command measures search, database-side augmentation, query expansion and k-reciprocal
re-ranking of 512-D embeddings, drawn as in rerank.py. `chain` is run_chain, which starts from the
ranking of `search`; `whole` is both. The stages before it are the steps of the chain, called one by
one; they must give the same ranking. Compiling is not timed. --growth measures these shares of the
size and prints the exponent of each stage. --time_budget runs the chain with a deadline; the exit
code is 1 if it ends too late.

Each stage is compared with its matrix products in float32: queries x gallery for a search, half of
gallery x gallery for the neighbours of dba, half of all x all for k-reciprocal. Only some tiles are
multiplied, before each stage; the median time of one multiplication is then scaled. `added` is the
peak memory that a stage adds; `kept` is the part that its result holds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from typing import Any

import numpy as np
from measuring import Seconds, Work, build_parser, medians, timed, timed_with_memory, write_results
from rerank import SEED, draw_features

from data_io.records import GlobalFeatures, Ranking
from delf_ext.index.exact import search
from delf_ext.reranking.chain import parse_chain, run_chain
from delf_ext.reranking.database_augmentation import augment_database
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.k_reciprocal import rerank_k_reciprocal
from delf_ext.reranking.query_expansion import expanded_embeddings

CHAIN = parse_chain("dba:10,aqe:5@3,k_reciprocal:20,6,0.3")
TILE_ROWS = 2048
NUM_TILES = 12
# Figures whose growth is printed.
GROWING = ("wall_s", "cpu_s", "added_bytes")
Figures = dict[str, dict[str, float]]


class StageTimer:
    """Seconds and bytes of each stage, and seconds of one multiplication in matrix products."""

    def __init__(self, embeddings: np.ndarray) -> None:
        """Store the embeddings float32 [N, D] whose products are timed."""
        self._rows: Figures = {}
        self._products: list[Seconds] = []
        self._embeddings = embeddings
        # The first product loads the BLAS and is not counted.
        self._time_products()

    def run(self, name: str, num_multiplications: float, work: Work) -> Any:
        """Run a stage and store its figures; return its result."""
        self._products.append(self._time_products())
        result, (wall_s, cpu_s), added_bytes = timed_with_memory(work)
        columns = [value for value in vars(result).values() if isinstance(value, np.ndarray)]
        self._rows[name] = {
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "added_bytes": added_bytes,
            "kept_bytes": sum(column.nbytes for column in columns if column.ndim > 1),
            "multiplications": num_multiplications,
        }
        return result

    def rows(self) -> Figures:
        """Return the figures of each stage, with the seconds of its matrix products."""
        wall_s, cpu_s = medians(self._products)
        for row in self._rows.values():
            row["products_wall_s"] = row["multiplications"] * wall_s
            row["products_cpu_s"] = row["multiplications"] * cpu_s
        return self._rows

    def _time_products(self) -> Seconds:
        """Return the seconds of one multiplication."""
        side = min(TILE_ROWS, len(self._embeddings))
        starts = np.linspace(0, len(self._embeddings) - side, NUM_TILES).astype(int)
        # A copy, because the product of a matrix with itself would be cheaper.
        left = self._embeddings[:side].copy()
        _, (wall_s, cpu_s) = timed(
            lambda: [len(left @ self._embeddings[start : start + side].T) for start in starts]
        )
        count = NUM_TILES * side**2 * left.shape[1]
        return wall_s / count, cpu_s / count


def expanded(
    query: GlobalFeatures, gallery: GlobalFeatures, ranking: Ranking, alpha: float
) -> GlobalFeatures:
    """Return the queries with embeddings that the chain's step `aqe` gives them."""
    embeddings = expanded_embeddings(query.embeddings, gallery.embeddings, ranking.rows, alpha)
    return GlobalFeatures.trusted(ids=query.ids, embeddings=embeddings, digest=query.digest)


def measure_stages(query: GlobalFeatures, gallery: GlobalFeatures, top_k: int) -> Figures:
    """Run the steps of the chain one by one, then the chain; return the figures of each."""
    dba, aqe, k_reciprocal = (step.settings for step in CHAIN)
    embeddings = np.concatenate([query.embeddings, gallery.embeddings])
    num_dims = embeddings.shape[1]
    for_search = len(query) * len(gallery) * num_dims
    for_dba = len(gallery) ** 2 * num_dims / 2
    for_k_reciprocal = len(embeddings) ** 2 * num_dims / 2
    for_chain = for_dba + 2 * for_search + for_k_reciprocal
    timer = StageTimer(embeddings)
    plain = timer.run("search", for_search, lambda: search(query, gallery, top_k))
    augmented = timer.run("dba", for_dba, lambda: augment_database(gallery, **dba))
    # Query expansion needs only the first results of this search.
    first = timer.run(
        "dba, search", for_search, lambda: search(query, augmented, aqe["num_expand"])
    )
    new_query = timer.run("aqe", 0, lambda: expanded(query, augmented, first, aqe["alpha"]))
    ranking = timer.run("aqe, search", for_search, lambda: search(new_query, augmented, top_k))
    reranked = timer.run(
        "k_reciprocal",
        for_k_reciprocal,
        lambda: rerank_k_reciprocal(ranking, new_query, augmented, **k_reciprocal),
    )
    chained = timer.run("chain", for_chain, lambda: run_chain(CHAIN, query, gallery, plain))
    is_equal = np.array_equal(chained.rows, reranked.rows)
    if not (is_equal and np.array_equal(chained.scores, reranked.scores)):
        raise SystemExit("the chain's ranking differs from that of its steps one by one.")
    return timer.rows()


def measure(query: GlobalFeatures, gallery: GlobalFeatures, options: argparse.Namespace) -> Figures:
    """Measure all rounds; print and return the medians."""
    rounds = [measure_stages(query, gallery, options.top_k) for _ in range(options.rounds)]
    rows = {
        name: {
            key: statistics.median(figures[name][key] for figures in rounds)
            for key in rounds[0][name]
        }
        for name in rounds[0]
    }
    whole = dict(rows["chain"])
    for key in whole:
        if not key.endswith("_bytes"):
            whole[key] += rows["search"][key]
    rows["whole"] = whole
    print(
        f"{len(query)} queries, {len(gallery)} gallery images, top {options.top_k}; "
        "seconds as wall / CPU, megabytes"
    )
    for name, row in rows.items():
        print(
            f"{name:<12} {row['wall_s']:8.2f} / {row['cpu_s']:8.2f} s   "
            f"its products {row['products_wall_s']:8.2f} / {row['products_cpu_s']:8.2f} s   "
            f"added {row['added_bytes'] / 1e6:7.0f}, kept {row['kept_bytes'] / 1e6:5.0f}"
        )
    # The products of k-reciprocal are half of all x all.
    print_ratio("k_reciprocal / one product of all x all", rows["k_reciprocal"], 0.5)
    print_ratio("whole / its products", whole, 1.0)
    sys.stdout.flush()
    return rows


def print_ratio(title: str, row: dict[str, float], share: float) -> None:
    """Print how many times longer a stage took than its products, times a share."""
    wall = share * row["wall_s"] / row["products_wall_s"]
    cpu = share * row["cpu_s"] / row["products_cpu_s"]
    print(f"{title}: {wall:.2f}x wall, {cpu:.2f}x CPU")


def measure_with_deadline(
    query: GlobalFeatures, gallery: GlobalFeatures, options: argparse.Namespace
) -> dict[str, Any]:
    """Run the chain with a deadline; print and return seconds and share of complete queries."""
    plain = search(query, gallery, options.top_k)
    deadline = Deadline(options.time_budget)
    ranking, (wall_s, cpu_s) = timed(lambda: run_chain(CHAIN, query, gallery, plain, deadline))
    complete = float(np.mean(ranking.complete))
    print(
        f"run_chain returned after {wall_s:.2f} s of {options.time_budget:g} s ({cpu_s:.2f} s CPU)"
    )
    print(f"complete: {complete:.1%} of the queries; {ranking.provenance}")
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "complete": complete,
        "provenance": ranking.provenance,
    }


def growth(small: str, large: str, results: dict[str, Figures]) -> Figures:
    """Return the exponents with which each stage grows between two sizes, and print them."""
    scale = math.log(int(large) / int(small))
    exponents = {}
    for name, row in results[large].items():
        before = results[small][name]
        title = f"{name}, {small} to {large}"
        exponents[title] = {
            key: math.log(row[key] / before[key]) / scale
            for key in GROWING
            if row[key] > 0 and before[key] > 0
        }
        shown = ", ".join(f"{key} N^{value:.2f}" for key, value in exponents[title].items())
        print(f"{title}: {shown}")
    return exponents


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__, rounds=1)
    add = parser.add_argument
    add("--queries", type=int, default=18_000, help="number of queries (default: %(default)s)")
    add("--gallery", type=int, default=60_000, help="size of the gallery (default: %(default)s)")
    add("--top_k", type=int, default=1000, help="results per query (default: %(default)s)")
    add("--seed", type=int, default=SEED, help="seed of the embeddings (default: %(default)s)")
    add("--growth", type=float, nargs="+", default=[1.0], help="shares of the size to measure")
    add("--time_budget", type=float, metavar="SECONDS", help="run the chain with a deadline")
    options = parser.parse_args()
    # This call compiles.
    measure_stages(*draw_features(40, 4000, options.seed), top_k=20)
    has_deadline = options.time_budget is not None
    run = measure_with_deadline if has_deadline else measure
    results: dict[str, Any] = {}
    for share in options.growth:
        num_queries = int(options.queries * share)
        num_gallery = int(options.gallery * share)
        query, gallery = draw_features(num_queries, num_gallery, options.seed)
        results[str(num_queries + num_gallery)] = run(query, gallery, options)
    exponents: Figures = {}
    if not has_deadline:
        sizes = list(results)
        for small, large in zip(sizes, sizes[1:]):
            exponents |= growth(small, large, results)
    write_results(options.json, options.seed, results, exponents=exponents, options=vars(options))
    if has_deadline and any(row["wall_s"] > options.time_budget for row in results.values()):
        raise SystemExit("the chain ended after its deadline.")


if __name__ == "__main__":
    main()
