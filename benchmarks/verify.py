"""Match + verify, and RANSAC alone, against DELF's own way (SciPy, scikit-image) and OpenCV's USAC, in turn in one process.

    python benchmarks/verify.py [--rounds=5] [--pairs=40] [--sets=200] [--json=verify.json]

Local features are drawn: 1,000 per image, descriptors about 300 common centres, as the parts of different products resemble
each other, so that neighbours are as near as DELF's threshold of 0.8 wants them; nothing matches truly. Contenders are
interleaved; medians are printed, CPU-seconds (the machine may be shared) and wall. A peer that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from measuring import medians, timed, write_results

from data_io.records import ImageKeypoints
from delf_ext.geometry.ransac import RansacConfig, estimate
from delf_ext.geometry.transforms import apply
from delf_ext.geometry.verification import VerifyConfig, verify

SEED, SIZE_PX, MAX_ERROR_PX, NOISE_PX = 0, (1024, 768), 5.0, 1.0
DELF_DISTANCE, DELF_RESIDUAL_PX, DELF_TRIALS = 0.8, 20.0, 1000
OUTLIERS = (0.0, 0.5, 0.8, 0.9)
Times = dict[str, list[tuple[float, float]]]


def drawn_images(num_images: int, num_dims: int, rng: np.random.Generator) -> list[ImageKeypoints]:
    centres = rng.standard_normal((300, num_dims))
    images = []
    for _ in range(num_images):
        descriptors = centres[rng.integers(300, size=1000)] + 0.5 * rng.standard_normal(
            (1000, num_dims)
        )
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        images.append(
            ImageKeypoints(
                rng.uniform(0, SIZE_PX, (1000, 2)),
                np.ones(1000),
                np.ones(1000),
                descriptors,
                SIZE_PX,
            )
        )
    return images


def delf_inliers(query: ImageKeypoints, gallery: ImageKeypoints) -> int:
    """As DELF's published example matches two images: nearest neighbour below a distance, affine RANSAC."""
    from scipy.spatial import cKDTree
    from skimage.measure import ransac
    from skimage.transform import AffineTransform

    _, rows = cKDTree(gallery.descriptors).query(
        query.descriptors, distance_upper_bound=DELF_DISTANCE
    )
    matched = rows < len(gallery)
    points = query.keypoints_px[matched], gallery.keypoints_px[rows[matched]]
    if matched.sum() < 4:
        return 0
    options = {"min_samples": 3, "residual_threshold": DELF_RESIDUAL_PX, "max_trials": DELF_TRIALS}
    _, inliers = ransac(points, AffineTransform, rng=np.random.default_rng(SEED), **options)
    return 0 if inliers is None else int(inliers.sum())


def missing(*packages: str) -> list[str]:
    absent = []
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            absent.append(package)
    return absent


def medians_ms(times: Sequence[tuple[float, float]], count: int) -> dict[str, float]:
    wall, cpu = medians(times)
    return {"wall_ms": 1000 * wall / count, "cpu_ms": 1000 * cpu / count}


def pairs_against_delf(num_dims: int, options: argparse.Namespace) -> dict[str, Any]:
    """(a) a non-matching pair, (b) the first 100 candidates of a query, beside one product of two images' descriptors."""
    images = drawn_images(101 + options.pairs, num_dims, np.random.default_rng(SEED))
    config = VerifyConfig(
        ransac=RansacConfig(min_inliers=1), max_error_fraction=DELF_RESIDUAL_PX / max(SIZE_PX)
    )
    query, gallery, others = images[0], images[1:101], images[101:]
    absent, share = missing("scipy", "skimage"), -(-options.pairs // options.rounds)
    left, right = (
        image.descriptors @ np.eye(num_dims, 128, dtype=np.float32) for image in (query, gallery[0])
    )
    product, inliers = np.empty((1000, 1000), np.float32), {"ours": [], "delf": []}  # type: dict[str, list[int]]
    times: Times = {"ours": [], "delf": [], "product_128": []}
    verify(query, gallery[:2], range(2), config)  # compiles
    for round_number in range(options.rounds):
        some = others[round_number * share : (round_number + 1) * share]
        times["product_128"].append(
            timed(lambda: [np.matmul(left, right.T, out=product) for _ in range(20)])[1]
        )
        times["ours"].append(timed(lambda: verify(query, gallery, range(100), config))[1])
        if not absent and some:
            found, spent = timed(lambda some=some: [delf_inliers(query, image) for image in some])
            times["delf"].append(tuple(value / len(some) for value in spent))  # type: ignore[arg-type]
            inliers["delf"] += found
        inliers["ours"] += [
            pair.num_inliers for pair in verify(query, some, range(len(some)), config)
        ]
    rows: dict[str, Any] = {
        "ours": medians_ms(times["ours"], 100),
        "product_128": medians_ms(times["product_128"], 20),
    }
    rows["ours"]["top_100_cpu_s"] = rows["ours"]["cpu_ms"] / 10
    rows["delf"] = medians_ms(times["delf"], 1) if times["delf"] else {"missing": absent}
    print(
        f"\nmatch + verify, 1,000 features {num_dims}-D, per non-matching pair ({options.pairs} pairs for the inliers)"
    )
    for name, row in rows.items():
        if name in inliers and inliers[name]:
            row["false_inliers_p99"] = float(np.percentile(inliers[name], 99))
        if "missing" in row:
            print(f"  {name:<12} not measured: {', '.join(row['missing'])} not installed")
            continue
        extra = (
            f"  false inliers p99 {row['false_inliers_p99']:.0f}"
            if "false_inliers_p99" in row
            else ""
        )
        ratio = (
            f"  {rows['delf']['cpu_ms'] / row['cpu_ms']:6.1f}x"
            if "cpu_ms" in rows["delf"] and name == "ours"
            else ""
        )
        print(
            f"  {name:<12} {row['cpu_ms']:8.2f} CPU-ms  {row['wall_ms']:8.2f} ms wall{ratio}{extra}"
        )
    print(f"  first 100 of one query: {rows['ours']['top_100_cpu_s']:.3f} CPU-s")
    return rows


def matched_points(
    model: str, outliers: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """300 matches [300, 2] twice: any rotation, scale 0.5 to 2, anisotropy to 1.8, for a homography perspective as well."""
    while True:
        angle, tilt, scale, stretch = (
            rng.uniform(-np.pi, np.pi),
            rng.uniform(0, np.pi),
            2 ** rng.uniform(-1, 1),
            1.8 ** rng.uniform(),
        )
        turn, lean = (
            np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for t in (angle, tilt)
        )
        h, centre = np.eye(3), np.eye(3)
        h[:2, :2] = scale * turn @ lean @ np.diag([stretch**0.5, stretch**-0.5]) @ lean.T
        h[2, :2] = rng.uniform(-3e-4, 3e-4, 2) if model == "homography" else 0.0
        centre[:2, 2] = np.array(SIZE_PX) / 2
        query = rng.uniform(0, SIZE_PX, (6000, 2))
        gallery = apply(centre @ h @ np.linalg.inv(centre), query)
        inside = (gallery >= 0).all(1) & (gallery <= SIZE_PX).all(1)
        if inside.sum() >= 300:
            break
    query, gallery = query[inside][:300], gallery[inside][:300] + rng.normal(0, NOISE_PX, (300, 2))
    wrong = rng.permutation(300)[: round(300 * outliers)]
    gallery[wrong] = rng.uniform(0, SIZE_PX, (len(wrong), 2))
    return query.astype(np.float32), gallery.astype(np.float32)


def estimators(
    model: str, config: RansacConfig
) -> dict[str, Callable[[np.ndarray, np.ndarray], int]]:
    """Ours and OpenCV's, with the same error allowed, confidence and number of trials."""
    found: dict[str, Callable[[np.ndarray, np.ndarray], int]] = {
        "ours": lambda q, g: estimate(q, g, config).num_inliers
    }
    if missing("cv2"):
        print("  OpenCV not measured: cv2 not installed")
        return found
    import cv2

    def usac(method: int) -> Callable[[np.ndarray, np.ndarray], int]:
        limits = {
            "maxIters": config.max_trials,
            "confidence": config.confidence,
            "ransacReprojThreshold": config.max_error_px,
        }
        function = cv2.findHomography if model == "homography" else cv2.estimateAffine2D

        def num_inliers(query: np.ndarray, gallery: np.ndarray) -> int:
            transform, mask = function(query, gallery, method=method, **limits)
            return 0 if transform is None else int(mask.sum())

        return num_inliers

    return {**found, "USAC_DEFAULT": usac(cv2.USAC_DEFAULT), "USAC_MAGSAC": usac(cv2.USAC_MAGSAC)}


def ransac_against_usac(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """(c) time per call, and the share of true pairs above all but 1 % of the false ones by number of inliers."""
    print(
        f"\nRANSAC alone, {model}, 300 matches, {options.sets} sets: CPU-ms per call (wall), TPR at 1 % FPR"
    )
    rng = np.random.default_rng(SEED)
    sets = {
        share: [matched_points(model, share, rng) for _ in range(options.sets)]
        for share in (*OUTLIERS, 1.0)
    }
    contenders = estimators(
        model, RansacConfig(model=model, max_error_px=MAX_ERROR_PX, min_inliers=1)
    )
    results: dict[str, Any] = {name: {} for name in contenders}
    counts: dict[str, dict[float, list[int]]] = {name: {} for name in contenders}
    times: dict[tuple[str, float], list[tuple[float, float]]] = {
        (name, share): [] for name in contenders for share in sets
    }
    for contender in contenders.values():
        contender(*sets[0.0][0])  # compiles
    for _ in range(options.rounds):
        for share, pairs in sets.items():
            for name, contender in contenders.items():
                counts[name][share], spent = timed(
                    lambda c=contender, pairs=pairs: [c(*pair) for pair in pairs]
                )
                times[name, share].append(spent)
    for name in contenders:
        threshold, cells = np.percentile(counts[name][1.0], 99), []
        for share in sets:
            row = medians_ms(times[name, share], options.sets)
            row["tpr"] = float(np.mean(np.array(counts[name][share]) > threshold))
            results[name][f"{share:.0%}"] = row
            told = f" {row['tpr']:.3f}" if share < 1 else ""
            cells.append(f"{share:.0%} out: {row['cpu_ms']:.3f} ({row['wall_ms']:.3f}){told}")
        print(f"  {name:<12} " + " | ".join(cells) + f" | p99 of false {threshold:.0f}")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--pairs", type=int, default=40, help="non-matching pairs for the false inliers of both"
    )
    parser.add_argument(
        "--sets",
        type=int,
        default=200,
        help="sets of matches for RANSAC alone, at each share of outliers",
    )
    parser.add_argument("--json")
    options = parser.parse_args()
    results = {f"pair_{dims}": pairs_against_delf(dims, options) for dims in (40, 128)}
    results.update(
        {
            f"ransac_{model}": ransac_against_usac(model, options)
            for model in ("affine", "homography")
        }
    )
    write_results(
        options.json, SEED, results, rounds=options.rounds, pairs=options.pairs, sets=options.sets
    )


if __name__ == "__main__":
    main()
