"""Compare geometric verification with DELF's published example, and RANSAC with OpenCV's USAC.

    python benchmarks/verify.py [--rounds=5] [--pairs=40] [--sets=200] [--json=verify.json]

The published example matches with SciPy and estimates with scikit-image. Local features are drawn:
1,000 per image, with descriptors around 300 common centres, because parts of different products
look alike. So neighbours are closer than DELF's threshold of 0.8, although no match is correct. A
peer that is not installed is skipped.
"""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from drawn_features import (
    NUM_FEATURES,
    NUM_MATCHES,
    SIZE_PX,
    draw_features,
    draw_matches,
)
from measuring import Seconds, Work, build_parser, medians, timed, write_results

from data_io.records import ImageKeypoints
from delf_ext.geometry.ransac import RansacConfig, estimate
from delf_ext.geometry.verification import VerifyConfig, verify

SEED = 0
MAX_ERROR_PX = 5.0
# Settings of DELF's published example.
DELF_DISTANCE = 0.8
DELF_RESIDUAL_PX = 20.0
DELF_TRIALS = 1000
# Candidates of a query that are verified.
NUM_CANDIDATES = 100
# Products per measurement.
NUM_PRODUCTS = 20
# Shares of wrong matches.
OUTLIERS = (0.0, 0.5, 0.8, 0.9)
Estimator = Callable[[np.ndarray, np.ndarray], int]


def delf_inliers(query: ImageKeypoints, gallery: ImageKeypoints) -> int:
    """Return the number of inliers, computed as in DELF's published example.

    It matches each feature to its nearest neighbour below a distance, and runs an affine RANSAC.
    """
    from scipy.spatial import cKDTree
    from skimage.measure import ransac
    from skimage.transform import AffineTransform

    tree = cKDTree(gallery.descriptors)
    _, rows = tree.query(query.descriptors, distance_upper_bound=DELF_DISTANCE)
    is_matched = rows < len(gallery)
    if is_matched.sum() < 4:
        return 0
    points = query.keypoints_px[is_matched], gallery.keypoints_px[rows[is_matched]]
    _, inliers = ransac(
        points,
        AffineTransform,
        min_samples=3,
        residual_threshold=DELF_RESIDUAL_PX,
        max_trials=DELF_TRIALS,
        rng=np.random.default_rng(SEED),
    )
    return 0 if inliers is None else int(inliers.sum())


def missing(*packages: str) -> list[str]:
    """Return the packages that are not installed."""
    absent = []
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            absent.append(package)
    return absent


def medians_ms(times: Sequence[Seconds], count: int) -> dict[str, float]:
    """Return median milliseconds per call, for measurements of `count` calls."""
    wall, cpu = medians(times)
    return {"wall_ms": 1000 * wall / count, "cpu_ms": 1000 * cpu / count}


def measure_pairs(
    images: Sequence[ImageKeypoints], rounds: int, absent: list[str]
) -> tuple[dict[str, list[Seconds]], dict[str, list[int]]]:
    """Measure matching and verification of the first image with the others.

    Args:
        images: query, candidates, and images whose false inliers are counted.
        rounds: measurements of each contender.
        absent: packages that are not installed; DELF is not measured without them.

    Returns:
        Seconds of each contender, per call or for all candidates; and numbers of false inliers.
    """
    query = images[0]
    candidates = images[1 : 1 + NUM_CANDIDATES]
    others = images[1 + NUM_CANDIDATES :]
    max_error_fraction = DELF_RESIDUAL_PX / max(SIZE_PX)
    ransac = RansacConfig(min_inliers=1)
    config = VerifyConfig(ransac=ransac, max_error_fraction=max_error_fraction)
    inliers: dict[str, list[int]] = {"ours": [], "delf": []}
    times: dict[str, list[Seconds]] = {"ours": [], "delf": [], "product_128": []}
    multiply = product_of_descriptors(query, candidates[0])

    def verify_candidates() -> None:
        verify(query, candidates, range(NUM_CANDIDATES), config)

    # This call compiles.
    verify(query, candidates[:2], range(2), config)
    pairs_per_round = math.ceil(len(others) / rounds)
    for round_number in range(rounds):
        first = round_number * pairs_per_round
        pairs = others[first : first + pairs_per_round]
        times["product_128"].append(timed(multiply)[1])
        times["ours"].append(timed(verify_candidates)[1])
        results = verify(query, pairs, range(len(pairs)), config)
        inliers["ours"] += [pair.num_inliers for pair in results]
        if pairs and not absent:
            counts, (wall, cpu) = timed(
                lambda pairs=pairs: [delf_inliers(query, image) for image in pairs]
            )
            times["delf"].append((wall / len(pairs), cpu / len(pairs)))
            inliers["delf"] += counts
    return times, inliers


def product_of_descriptors(query: ImageKeypoints, gallery: ImageKeypoints) -> Work:
    """Return a function that multiplies descriptors, padded or cut to 128-D, NUM_PRODUCTS times."""
    to_128 = np.eye(query.descriptors.shape[1], 128, dtype=np.float32)
    left = query.descriptors @ to_128
    right = gallery.descriptors @ to_128
    product = np.empty((NUM_FEATURES, NUM_FEATURES), np.float32)

    def multiply() -> None:
        for _ in range(NUM_PRODUCTS):
            np.matmul(left, right.T, out=product)

    return multiply


def compare_with_delf(num_dims: int, options: argparse.Namespace) -> dict[str, Any]:
    """Measure pairs that do not match, with descriptors of `num_dims`; return figures by name."""
    rng = np.random.default_rng(SEED)
    images = draw_features(1 + NUM_CANDIDATES + options.pairs, num_dims, rng)
    absent = missing("scipy", "skimage")
    times, inliers = measure_pairs(images, options.rounds, absent)
    figures: dict[str, Any] = {
        "ours": medians_ms(times["ours"], NUM_CANDIDATES),
        "product_128": medians_ms(times["product_128"], NUM_PRODUCTS),
    }
    figures["ours"]["top_100_cpu_s"] = figures["ours"]["cpu_ms"] * NUM_CANDIDATES / 1000
    figures["delf"] = medians_ms(times["delf"], 1) if times["delf"] else {"missing": absent}
    for name, counts in inliers.items():
        if counts:
            figures[name]["false_inliers_p99"] = float(np.percentile(counts, 99))
    print(
        f"\nmatching and verification, 1,000 features {num_dims}-D, per pair that does not match "
        f"({options.pairs} pairs for the inliers)"
    )
    print_verification(figures)
    return figures


def print_verification(figures: dict[str, Any]) -> None:
    """Print the figures of `compare_with_delf`."""
    delf = figures["delf"]
    for name, row in figures.items():
        if "missing" in row:
            print(f"  {name:<12} not measured: {', '.join(row['missing'])} not installed")
            continue
        line = f"  {name:<12} {row['cpu_ms']:8.2f} CPU-ms  {row['wall_ms']:8.2f} ms wall"
        if name == "ours" and "cpu_ms" in delf:
            line += f"  {delf['cpu_ms'] / row['cpu_ms']:6.1f}x"
        if "false_inliers_p99" in row:
            line += f"  false inliers p99 {row['false_inliers_p99']:.0f}"
        print(line)
    print(f"  first 100 of one query: {figures['ours']['top_100_cpu_s']:.3f} CPU-s")


def estimators(model: str, config: RansacConfig) -> dict[str, Estimator]:
    """Return our estimator and OpenCV's, with the same error, confidence and number of trials.

    Each takes points in query and gallery, float32 [K, 2], and returns the number of inliers.
    """
    contenders: dict[str, Estimator] = {
        "ours": lambda query, gallery: estimate(query, gallery, config).num_inliers
    }
    if missing("cv2"):
        print("  OpenCV not measured: cv2 not installed")
        return contenders
    import cv2

    find = cv2.findHomography if model == "homography" else cv2.estimateAffine2D

    def usac(method: int) -> Estimator:
        def num_inliers(query: np.ndarray, gallery: np.ndarray) -> int:
            transform, mask = find(
                query,
                gallery,
                method=method,
                maxIters=config.max_trials,
                confidence=config.confidence,
                ransacReprojThreshold=config.max_error_px,
            )
            return 0 if transform is None else int(mask.sum())

        return num_inliers

    contenders["USAC_DEFAULT"] = usac(cv2.USAC_DEFAULT)
    contenders["USAC_MAGSAC"] = usac(cv2.USAC_MAGSAC)
    return contenders


def compare_with_usac(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the time per call, and how well the number of inliers separates true from false.

    The true-positive rate is the share of sets with more inliers than 99 % of the sets without a
    correct match.

    Args:
        model: "affine" or "homography".
        options: flags.

    Returns:
        Figures by name and share of wrong matches.
    """
    print(f"\nRANSAC alone, {model}, {NUM_MATCHES} matches, {options.sets} sets:")
    print("  CPU-ms per call (wall), TPR at 1 % FPR")
    rng = np.random.default_rng(SEED)
    sets = {
        share: [draw_matches(model, share, rng) for _ in range(options.sets)]
        for share in (*OUTLIERS, 1.0)
    }
    config = RansacConfig(model=model, max_error_px=MAX_ERROR_PX, min_inliers=1)
    contenders = estimators(model, config)
    counts: dict[tuple[str, float], list[int]] = {}
    times: dict[tuple[str, float], list[Seconds]] = {
        (name, share): [] for name in contenders for share in sets
    }
    for contender in contenders.values():
        # This call compiles.
        contender(*sets[0.0][0])
    for _ in range(options.rounds):
        for share, pairs in sets.items():
            for name, contender in contenders.items():
                counts[name, share], seconds = timed(
                    lambda contender=contender, pairs=pairs: [contender(*pair) for pair in pairs]
                )
                times[name, share].append(seconds)
    results: dict[str, Any] = {}
    for name in contenders:
        threshold = np.percentile(counts[name, 1.0], 99)
        results[name] = {}
        cells = []
        for share in sets:
            row = medians_ms(times[name, share], options.sets)
            row["tpr"] = float(np.mean(np.array(counts[name, share]) > threshold))
            results[name][f"{share:.0%}"] = row
            cell = f"{share:.0%} out: {row['cpu_ms']:.3f} ({row['wall_ms']:.3f})"
            cells.append(f"{cell} {row['tpr']:.3f}" if share < 1 else cell)
        print(f"  {name:<12} {' | '.join(cells)} | p99 of false {threshold:.0f}")
    return results


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__)
    pairs_help = "pairs that count false inliers (default: %(default)s)"
    parser.add_argument("--pairs", type=int, default=40, help=pairs_help)
    sets_help = "sets of matches for RANSAC per share of outliers (default: %(default)s)"
    parser.add_argument("--sets", type=int, default=200, help=sets_help)
    options = parser.parse_args()
    results = {f"pair_{num_dims}": compare_with_delf(num_dims, options) for num_dims in (40, 128)}
    for model in ("affine", "homography"):
        results[f"ransac_{model}"] = compare_with_usac(model, options)
    write_results(
        options.json, SEED, results, rounds=options.rounds, pairs=options.pairs, sets=options.sets
    )


if __name__ == "__main__":
    main()
