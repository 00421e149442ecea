"""Compare the decoding of JPEG files to model inputs with TensorFlow and OpenCV.

    python benchmarks/decode.py [--sizes 256 640 1600 4000] [--size_px=224] [--json=decode.json]

Each contender reads a file and returns a square image, on --threads threads:

- `ours`: load_image
- `plain`: load_image without decoding at a reduced scale
- `cached`: load_image with a filled pixel cache
- `tensorflow`: decode_jpeg and resize(antialias=True); `tensorflow ratio` decodes at our scale
- `opencv`: imread and resize(INTER_AREA); `opencv reduced` decodes at our scale

The images are drawn: noise of all scales, 4:3, quality 90, 2.2 bits per pixel, like images from a
phone. Printed are images per second of wall and CPU time, and how close the pixels are to those of
`plain`, in decibels.
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
from measuring import Work, build_parser, interleaved, write_results
from PIL import Image

from data_io.images import load_image, sufficient_px
from data_io.stores.pixels import PixelCache

SEED = 0
QUALITY = 90
NUM_FILES = 4
PIXELS_PER_ROUND = 24e6
Decode = Callable[[str], np.ndarray]


def draw(path: Path, width: int, rng: np.random.Generator) -> None:
    """Draw an image of noise, 4:3, and save it as JPEG."""
    height = width * 3 // 4
    pixels = rng.normal(128, 4, (height, width, 1))
    for scale in (2, 8, 32, 128):
        noise = rng.normal(0, 4 * scale**0.4, (max(2, height // scale), max(2, width // scale), 3))
        pixels = pixels + cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, "JPEG", quality=QUALITY)


def tensorflow_decoder(size_px: int, ratio: int) -> Decode:
    """Return a function that decodes at 1/ratio and resizes with TensorFlow."""

    @tf.function
    def graph(path: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), channels=3, ratio=ratio)
        resized = tf.image.resize(pixels, (size_px, size_px), antialias=True)
        return tf.cast(tf.round(resized), tf.uint8)

    return lambda path: graph(tf.constant(path)).numpy()


def opencv_decoder(size_px: int, ratio: int) -> Decode:
    """Return a function that decodes at 1/ratio and resizes with OpenCV."""
    flag = cv2.IMREAD_COLOR if ratio == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{ratio}")

    def decode(path: str) -> np.ndarray:
        pixels = cv2.imread(path, flag)[..., ::-1]
        return cv2.resize(pixels, (size_px, size_px), interpolation=cv2.INTER_AREA)

    return decode


def decoders(size_px: int, ratio: int, cache: Path) -> dict[str, Decode]:
    """Return the contenders by name."""
    return {
        "ours": lambda path: load_image(path, size_px),
        "plain": lambda path: load_image(path, size_px, reduced=False),
        "cached": PixelCache(cache, size_px).load,
        "tensorflow": tensorflow_decoder(size_px, 1),
        "tensorflow ratio": tensorflow_decoder(size_px, ratio),
        "opencv": opencv_decoder(size_px, 1),
        "opencv reduced": opencv_decoder(size_px, ratio),
    }


def decibels(pixels: np.ndarray, expected: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio."""
    error = np.mean((pixels.astype(float) - expected) ** 2)
    return float(10 * np.log10(255**2 / max(1e-9, error)))


def our_ratio(height: int, size_px: int) -> int:
    """Return the divisor at which load_image decodes an image of this height."""
    enough = [scale for scale in (2, 4, 8) if height // scale >= sufficient_px(size_px)]
    return max([1, *enough])


def measure(
    width: int, options: argparse.Namespace, pool: ThreadPoolExecutor, folder: Path
) -> dict[str, dict[str, float]]:
    """Compare all decoders on images of one width; return figures by name."""
    rng = np.random.default_rng([SEED, width])
    paths = [folder / f"{width}_{number}.jpg" for number in range(NUM_FILES)]
    for path in paths:
        draw(path, width, rng)
    height = width * 3 // 4
    ratio = our_ratio(height, options.size_px)
    kilobytes = sum(path.stat().st_size for path in paths) / NUM_FILES / 1000
    print(f"\n{width} x {height} px, {kilobytes:.0f} kB, decoded at 1/{ratio}")
    contenders = decoders(options.size_px, ratio, folder / "cache")
    names = [str(path) for path in paths] * max(1, round(PIXELS_PER_ROUND / width**2 / NUM_FILES))
    plain = load_image(paths[0], options.size_px, reduced=False)
    closeness = {name: decibels(decode(names[0]), plain) for name, decode in contenders.items()}

    def on_all_files(decode: Decode) -> Work:
        return lambda: list(pool.map(decode, names))

    work = {name: on_all_files(decode) for name, decode in contenders.items()}
    times = interleaved(work, options.rounds)
    plain_cpu = times["plain"][1]
    rows = {}
    for name, (wall, cpu) in times.items():
        rows[name] = {
            "images_per_s": len(names) / wall,
            "images_per_cpu_s": len(names) / cpu,
            "ratio": plain_cpu / cpu,
            "decibels": closeness[name],
        }
        print(
            f"{name:<17} {len(names) / wall:7.0f} images/s {len(names) / cpu:7.0f} per CPU-s "
            f"{1000 * cpu / len(names):7.2f} CPU-ms  {plain_cpu / cpu:5.2f}x of plain  "
            f"{closeness[name]:5.1f} dB"
        )
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__)
    default_sizes = [256, 640, 1600, 4000]
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=default_sizes, help="widths of the images")
    add("--size_px", type=int, default=224, help="side of the output (default: %(default)s)")
    add("--threads", type=int, default=2, help="files to decode at once (default: %(default)s)")
    options = parser.parse_args()
    # Only files are decoded in parallel.
    cv2.setNumThreads(1)
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
