"""From a JPEG file to a square for the model: ours against TensorFlow's and OpenCV's decoders, in turn in one run.

    python benchmarks/decode.py [--sizes 256 640 1600 4000] [--size_px=224] [--rounds=5] [--threads=2] [--json=decode.json]

Photographs are drawn on the spot: noise of all scales with grain, 4:3, quality 90, 2.2 bits per pixel, as a phone's. Contenders:
`ours` is load_image; `plain` the same with every pixel decoded; `cached` ours the second time, with a pixel cache; `tensorflow`
is decode_jpeg and resize(antialias=True), with `ratio` at the scale that ours takes; `opencv` is imread and resize(INTER_AREA),
with `reduced` at that scale too. All start from the file, on so many threads. Medians of wall and CPU seconds (all threads), and
how close the pixels are to the plain ones, in decibels.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import cv2
import numpy as np
import tensorflow as tf
from measuring import Seconds, medians, timed, write_results
from PIL import Image

from data_io.images import load_image, sufficient_px
from data_io.stores.pixels import PixelCache

SEED, QUALITY = 0, 90
FILES, PIXELS_PER_ROUND = 4, 24e6
Decode = Callable[[str], np.ndarray]


def draw(path: Path, width: int, rng: np.random.Generator) -> None:
    height = width * 3 // 4
    pixels = rng.normal(128, 4, (height, width, 1))
    for scale in (2, 8, 32, 128):
        noise = rng.normal(0, 4 * scale**0.4, (max(2, height // scale), max(2, width // scale), 3))
        pixels = pixels + cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, "JPEG", quality=QUALITY)


def with_tensorflow(size_px: int, ratio: int) -> Decode:
    @tf.function
    def graph(path: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, ratio=ratio)
        return tf.cast(
            tf.round(tf.image.resize(pixels, (size_px, size_px), antialias=True)), tf.uint8
        )

    return lambda path: graph(tf.constant(path)).numpy()


def with_opencv(size_px: int, ratio: int) -> Decode:
    flag = cv2.IMREAD_COLOR if ratio == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{ratio}")
    return lambda path: cv2.resize(
        cv2.imread(path, flag)[..., ::-1], (size_px, size_px), interpolation=cv2.INTER_AREA
    )


def contenders(size_px: int, ratio: int, cache: Path) -> dict[str, Decode]:
    return {
        "ours": lambda path: load_image(path, size_px),
        "plain": lambda path: load_image(path, size_px, reduced=False),
        "cached": PixelCache(cache, size_px).load,
        "tensorflow": with_tensorflow(size_px, 1),
        "tensorflow ratio": with_tensorflow(size_px, ratio),
        "opencv": with_opencv(size_px, 1),
        "opencv reduced": with_opencv(size_px, ratio),
    }


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((found.astype(float) - expected) ** 2))))


def measure(
    width: int, options: argparse.Namespace, pool: ThreadPoolExecutor, folder: Path
) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng([SEED, width])
    paths = [folder / f"{width}_{number}.jpg" for number in range(FILES)]
    for path in paths:
        draw(path, width, rng)
    ratio = max(
        scale
        for scale in (1, 2, 4, 8)
        if scale == 1 or width * 3 // 4 // scale >= sufficient_px(options.size_px)
    )
    kilobytes = sum(path.stat().st_size for path in paths) / FILES / 1000
    print(f"\n{width} x {width * 3 // 4} px, {kilobytes:.0f} kB, decoded at 1/{ratio}")
    work = contenders(options.size_px, ratio, folder / "cache")
    names = [str(path) for path in paths] * max(1, round(PIXELS_PER_ROUND / width**2 / FILES))
    plain = load_image(paths[0], options.size_px, reduced=False)
    closeness = {name: decibels(decode(names[0]), plain) for name, decode in work.items()}

    times: dict[str, list[Seconds]] = {name: [] for name in work}
    for round_number in range(
        -1, options.rounds
    ):  # one round to trace, to fill the cache and to settle
        for name, decode in work.items():
            _, measured = timed(lambda decode=decode: list(pool.map(decode, names)))
            if round_number >= 0:
                times[name].append(measured)
    peer = medians(times["plain"])[1]
    rows = {}
    for name, pairs in times.items():
        wall, cpu = medians(pairs)
        per_s, per_cpu_s, cpu_ms = len(names) / wall, len(names) / cpu, 1000 * cpu / len(names)
        rows[name] = {
            "images_per_s": per_s,
            "images_per_cpu_s": per_cpu_s,
            "ratio": peer / cpu,
            "decibels": closeness[name],
        }
        print(
            f"{name:<17} {per_s:7.0f} images/s {per_cpu_s:7.0f} per CPU-s {cpu_ms:7.2f} CPU-ms"
            f"  {peer / cpu:5.2f}x of plain  {closeness[name]:5.1f} dB"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 640, 1600, 4000])
    parser.add_argument("--size_px", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json")
    options = parser.parse_args()
    cv2.setNumThreads(1)  # the files are what runs in parallel
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.threads) as pool:
        results = {
            str(width): measure(width, options, pool, Path(folder)) for width in options.sizes
        }
    write_results(
        options.json,
        SEED,
        results,
        rounds=options.rounds,
        size_px=options.size_px,
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
