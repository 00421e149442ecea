"""Measure the first two searches of a newcomer: the command without a model, in child processes.

    python benchmarks/first_search.py [--images=1000] [--width=2048] [--rounds=3]
        [--runtimes openvino tensorflow] [--json=first_search.json]

Each round starts with an empty cache folder. The `first` search embeds all photographs and a query;
the `second` has another query, and finds the photographs in the cache. Both are whole commands,
with the start of Python and of the runtime. The runtimes take turns; medians are printed.

The photographs are drawn, 4:3, by default 3 megapixels as phones send them. Only some are drawn,
because drawing is slow; the others have the same pixels and another comment in the file, so that
none of them is found in the cache. All files are in the page cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from measuring import Seconds, build_parser, medians, write_results
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SEED = 0
NUM_DRAWN = 16
JPEG_QUALITY = 85
# Sides of the noise, in pixels: fine texture to large areas.
NOISE_PX = (2, 8, 32, 128, 512)
RUNTIMES = {"openvino": "openvino", "tensorflow": "tensorflow"}
"""Value of --runtime -> package that it needs."""


def draw(path: Path, width: int, number: int, rng: np.random.Generator) -> None:
    """Draw a photograph of noise, 4:3; its number is a comment in the file."""
    height = width * 3 // 4
    pixels = np.full((height, width, 3), 128.0)
    for side_px in NOISE_PX:
        shape = (max(2, height // side_px), max(2, width // side_px), 3)
        noise = rng.normal(128, 6 * side_px**0.4, shape).clip(0, 255).astype(np.uint8)
        larger = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        pixels += np.asarray(larger, np.float64) - 128
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    image.save(path, "JPEG", quality=JPEG_QUALITY, comment=f"{number:08}")


def draw_photographs(folder: Path, width: int, count: int) -> None:
    """Draw photographs into a folder, each with other bytes than the others."""
    rng = np.random.default_rng([SEED, width])
    folder.mkdir()
    drawn = []
    for number in range(count):
        path = folder / f"{number:06}.jpg"
        if number < NUM_DRAWN:
            draw(path, width, number, rng)
            drawn.append(path.read_bytes())
        else:
            own, source = (b"%08d" % n for n in (number, number % NUM_DRAWN))
            path.write_bytes(drawn[number % NUM_DRAWN].replace(source, own, 1))


def searched(photographs: Path, query: Path, runtime: str, cache: Path) -> Seconds:
    """Run one search in a child process; return its wall and CPU seconds."""
    words = ["search", f"--data={photographs}", f"--image={query}", f"--runtime={runtime}"]
    environment = {**os.environ, "MANDOO_CACHE": str(cache)}
    before = os.times()
    wall = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, str(ROOT / "dual_main.py"), *words],
        env=environment,
        capture_output=True,
        text=True,
    )
    wall = time.perf_counter() - wall
    after = os.times()
    if ended.returncode:
        raise SystemExit(f"mandoo {' '.join(words)}: {ended.stderr.strip()}")
    cpu = after.children_user - before.children_user
    return wall, cpu + after.children_system - before.children_system


def main() -> None:
    """Draw the photographs, time the searches, print and write the results."""
    parser = build_parser(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=1000, help="photographs (default: 1000)")
    parser.add_argument("--width", type=int, default=2048, help="in pixels (default: 2048)")
    installed = [name for name, package in RUNTIMES.items() if find_spec(package)]
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=installed)
    options = parser.parse_args()
    times: dict[str, list[Seconds]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_photographs(folder / "photographs", options.width, options.images)
        rng = np.random.default_rng([SEED, options.images])
        queries = {"first": folder / "one.jpg", "second": folder / "two.jpg"}
        for path in queries.values():
            draw(path, options.width, 0, rng)
        size = sum(path.stat().st_size for path in (folder / "photographs").iterdir())
        print(f"{options.images} photographs, {size / 1e6:.0f} MB")
        for round_number in range(options.rounds):
            for runtime in options.runtimes:
                cache = folder / f"cache-{runtime}-{round_number}"
                for name, query in queries.items():
                    seconds = searched(folder / "photographs", query, runtime, cache)
                    times.setdefault(f"{runtime} {name}", []).append(seconds)
    results = {name: medians(pairs) for name, pairs in times.items()}
    for name, (wall, cpu) in results.items():
        print(f"{name:<18} {wall:7.2f} s wall {cpu:7.2f} s CPU")
    write_results(
        options.json, SEED, results, images=options.images, width=options.width, bytes=size
    )


if __name__ == "__main__":
    main()
