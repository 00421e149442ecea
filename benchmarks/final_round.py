"""The challenge's last round on embeddings: search, database-side augmentation, query expansion and k-reciprocal re-ranking.

    python benchmarks/final_round.py [--queries=18000] [--gallery=60000] [--rounds=1] [--json=final_round.json]
    python benchmarks/final_round.py --growth 0.125 0.25 0.5 1     # shares of these sizes, and each stage's exponent
    python benchmarks/final_round.py --time_budget=60              # run_chain under a deadline; exit code 1 where it is late

Embeddings are those of rerank.py, 512-D, in clusters that overlap. `chain` is run_chain, which starts from the plain ranking of
`search`; `whole` is both together. The stages before it are its steps, taken one by one through the functions that it calls; the
rankings of both must be the same. Compiling is not timed.
A stage is held against its matrix products in float32: queries x gallery for a search, half of gallery x gallery for dba's
neighbours, half of all x all for k-reciprocal's. These are not run as a whole: before each stage TILES_AT_ONCE tiles of them are
multiplied, and the median of their seconds per multiplication is scaled. Added memory is the peak of the resident set above what
it was before the stage; `kept` is what the stage's result holds of it.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring import medians, timed, write_results
from rerank import SEED, drawn, status_bytes

from data_io.records import GlobalFeatures, Ranking
from delf_ext.index.exact import search
from delf_ext.reranking.chain import parse_chain, run_chain
from delf_ext.reranking.database_augmentation import augment_database
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.k_reciprocal import rerank_k_reciprocal
from delf_ext.reranking.query_expansion import expanded_embeddings

CHAIN = parse_chain("dba:10,aqe:5@3,k_reciprocal:20,6,0.3")
TILE_ROWS, TILES_AT_ONCE = 2048, 12
GROWING = ("wall_s", "cpu_s", "added_bytes")


class Stages:
    """Seconds and bytes by stage, and between them the seconds of one multiplication in a matrix product."""

    def __init__(self, embeddings: np.ndarray) -> None:
        self._rows: dict[str, dict[str, float]] = {}
        self._products: list[tuple[float, float]] = []
        self._embeddings = embeddings
        self._multiply()  # loads the BLAS: not counted

    def run(self, name: str, multiplications: float, work: Callable[[], Any]) -> Any:
        self._products.append(self._multiply())
        ctypes.CDLL("libc.so.6").malloc_trim(
            0
        )  # what was freed before shall not hide what is added
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
        before = status_bytes("VmRSS")
        result, (wall_s, cpu_s) = timed(work)
        added = status_bytes("VmHWM") - before
        kept = sum(
            column.nbytes
            for column in vars(result).values()
            if isinstance(column, np.ndarray) and column.ndim > 1
        )
        row = {
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "added_bytes": added,
            "kept_bytes": kept,
            "multiplications": multiplications,
        }
        self._rows[name] = row
        return result

    def rows(self) -> dict[str, dict[str, float]]:
        """Of each stage; products_wall_s and products_cpu_s are of its matrix products."""
        wall_s, cpu_s = medians(self._products)
        for row in self._rows.values():
            row |= {
                "products_wall_s": row["multiplications"] * wall_s,
                "products_cpu_s": row["multiplications"] * cpu_s,
            }
        return self._rows

    def _multiply(self) -> tuple[float, float]:
        """Seconds per multiplication, wall and CPU."""
        side = min(TILE_ROWS, len(self._embeddings))
        starts = np.linspace(0, len(self._embeddings) - side, TILES_AT_ONCE).astype(int)
        left = self._embeddings[:side].copy()  # a product with itself would be a cheaper one
        _, (wall_s, cpu_s) = timed(
            lambda: [len(left @ self._embeddings[start : start + side].T) for start in starts]
        )
        count = TILES_AT_ONCE * side**2 * left.shape[1]
        return wall_s / count, cpu_s / count


def expanded(
    query: GlobalFeatures, gallery: GlobalFeatures, ranking: Ranking, alpha: float
) -> GlobalFeatures:
    """Return the queries with embeddings that the chain's step `aqe` gives them."""
    embeddings = expanded_embeddings(query.embeddings, gallery.embeddings, ranking.rows, alpha)
    return GlobalFeatures.trusted(ids=query.ids, embeddings=embeddings, digest=query.digest)


def stages(
    query: GlobalFeatures, gallery: GlobalFeatures, top_k: int
) -> dict[str, dict[str, float]]:
    dba, aqe, k_reciprocal = (step.settings for step in CHAIN)
    everything = np.concatenate([query.embeddings, gallery.embeddings])
    num_dims = everything.shape[1]
    searched, half = len(query) * len(gallery) * num_dims, len(gallery) ** 2 * num_dims / 2
    full = len(everything) ** 2 * num_dims
    steps = Stages(everything)
    plain = steps.run("search", searched, lambda: search(query, gallery, top_k))
    near = steps.run("dba", half, lambda: augment_database(gallery, **dba))
    found = steps.run(
        "dba, search", searched, lambda: search(query, near, aqe["num_expand"])
    )  # what the next step looks at
    asked = steps.run("aqe", 0, lambda: expanded(query, near, found, aqe["alpha"]))
    found = steps.run("aqe, search", searched, lambda: search(asked, near, top_k))
    found = steps.run(
        "k_reciprocal", full / 2, lambda: rerank_k_reciprocal(found, asked, near, **k_reciprocal)
    )
    chain = steps.run(
        "chain", half + 2 * searched + full / 2, lambda: run_chain(CHAIN, query, gallery, plain)
    )
    if not (np.array_equal(chain.rows, found.rows) and np.array_equal(chain.scores, found.scores)):
        raise SystemExit("the chain's ranking is not that of its steps one by one.")
    return steps.rows()


def repeated(
    query: GlobalFeatures, gallery: GlobalFeatures, options: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Medians of the rounds, printed with their ratios."""
    rounds = [stages(query, gallery, options.top_k) for _ in range(options.rounds)]
    rows = {
        name: {
            key: statistics.median(each[name][key] for each in rounds) for key in rounds[0][name]
        }
        for name in rounds[0]
    }
    whole = {
        key: rows["search"][key] + rows["chain"][key]
        for key in rows["chain"]
        if not key.endswith("_bytes")
    }
    rows["whole"] = whole | {key: rows["chain"][key] for key in ("added_bytes", "kept_bytes")}
    print(
        f"{len(query)} queries, {len(gallery)} gallery images, top {options.top_k}; seconds as wall / CPU, megabytes"
    )
    for name, row in rows.items():
        print(
            f"{name:<12} {row['wall_s']:8.2f} / {row['cpu_s']:8.2f} s   its products {row['products_wall_s']:8.2f} / "
            f"{row['products_cpu_s']:8.2f} s   added {row['added_bytes'] / 1e6:7.0f}, kept {row['kept_bytes'] / 1e6:5.0f}"
        )
    for name, share, against in (
        ("k_reciprocal", 0.5, "one product of all x all"),
        ("whole", 1.0, "its products"),
    ):
        wall, cpu = (
            share * rows[name][key] / rows[name][f"products_{key}"] for key in ("wall_s", "cpu_s")
        )
        print(f"{name} / {against}: {wall:.2f}x wall, {cpu:.2f}x CPU")
    sys.stdout.flush()
    return rows


def under_deadline(
    query: GlobalFeatures, gallery: GlobalFeatures, options: argparse.Namespace
) -> dict[str, Any]:
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


def grown(results: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Exponents of each stage from one size (its total is the key) to the next."""
    exponents = {}
    for small, large in zip(results, list(results)[1:]):
        scale = math.log(int(large) / int(small))
        for name, row in results[large].items():
            before = results[small][name]
            told = {
                key: math.log(row[key] / before[key]) / scale
                for key in GROWING
                if row[key] > 0 < before[key]
            }
            exponents[f"{name}, {small} to {large}"] = told
            print(
                f"{name}, {small} to {large}: "
                + ", ".join(f"{key} N^{value:.2f}" for key, value in told.items())
            )
    return exponents


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=18_000)
    parser.add_argument("--gallery", type=int, default=60_000)
    parser.add_argument("--top_k", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--growth", type=float, nargs="+", default=[1.0])
    parser.add_argument("--time_budget", type=float)
    parser.add_argument("--json")
    options = parser.parse_args()
    stages(*drawn(40, 4000, options.seed), top_k=20)  # compiles
    results: dict[str, Any] = {}
    for share in options.growth:
        numbers = int(options.queries * share), int(options.gallery * share)
        query, gallery = drawn(*numbers, options.seed)
        if options.time_budget is not None:
            results[str(sum(numbers))] = under_deadline(query, gallery, options)
        else:
            results[str(sum(numbers))] = repeated(query, gallery, options)
    exponents = grown(results) if options.time_budget is None else {}
    write_results(options.json, options.seed, results, exponents=exponents, options=vars(options))
    if options.time_budget is not None and any(
        result["wall_s"] > options.time_budget for result in results.values()
    ):
        raise SystemExit("late.")


if __name__ == "__main__":
    main()
