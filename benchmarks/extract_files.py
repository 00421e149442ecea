"""Measure each stage from JPEG files to stored embeddings, and compare with the model alone.

    python benchmarks/extract_files.py [--data=FOLDER | --side=640] [--images=512]
        [--pretrained_model=FILE.ckpt] [--runtime=openvino] [--json=extract_files.json]

- `read`: read and hash the files
- `decode`: decode them to squares of 224 px, on all threads
- `model`: embed decoded batches; the other stages are compared with it
- `job`: all of it, with extract_in_parts into an empty folder

The files are in the page cache. Without --data, images are drawn. Without --pretrained_model, the
weights are random, because they do not change the speed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from measuring import Work, build_parser, interleaved, write_results

from data_io.datasets import list_images
from data_io.files.contents import content_digest
from data_io.records import ImageList
from delf_ext.features.decoding import decoded_batches
from delf_ext.features.embedder import Embedder
from delf_ext.features.extraction_job import extract_in_parts
from delf_ext.features.network_embedders import in_openvino
from delf_ext.features.runtimes.int8 import in_openvino_int8, spread
from delf_ext.models.trunks.slim import SlimTrunk
from delf_ext.recipes.schema import Trunk
from delf_ext.runs.opening import open_model
from delf_ext.runs.sources import CheckpointSource, Runtime
from pretrained.convert import write_checkpoint

SIZE = 224
SEED = 0
# More would take longer to draw than to embed, so the others are copies.
NUM_DRAWN = 16
# Images in each round of the 2018 challenge.
CHALLENGE = {"first round": 7_104, "final": 78_000}


def draw_images(folder: Path, side: int, count: int) -> ImageList:
    """Draw images as benchmarks/decode.py does."""
    from decode import draw

    rng = np.random.default_rng([SEED, side])
    (folder / "images").mkdir()
    paths = [folder / "images" / f"{number:05}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if number < NUM_DRAWN:
            draw(path, side, rng)
        else:
            path.write_bytes(paths[number % NUM_DRAWN].read_bytes())
    return list_images(folder / "images")


def write_random_checkpoint(path: Path) -> None:
    """Write a checkpoint of the trunk with random weights."""
    network = SlimTrunk(layout="v1.5")
    network(tf.zeros([1, SIZE, SIZE, 3]))
    weights = {variable.name.removesuffix(":0"): variable.numpy() for variable in network.variables}
    write_checkpoint(path, weights)


def open_embedder(options: argparse.Namespace, images: ImageList, folder: Path) -> Embedder:
    """Open the model in the runtime of the flags; `images` calibrate int8."""
    checkpoint = options.pretrained_model
    trunk = Trunk()
    if not checkpoint:
        checkpoint = str(folder / "random.ckpt")
        trunk = Trunk(layout="v1.5")
        write_random_checkpoint(Path(checkpoint))
    source = CheckpointSource(checkpoint, trunk, size_px=SIZE)
    model = open_model(source, Runtime(mixed_precision="off"), store=False, log=print)
    assert isinstance(model, Embedder)
    if options.runtime == "openvino-int8":
        return in_openvino_int8(model, images, folder)
    return in_openvino(model, folder) if options.runtime == "openvino" else model


def stages(model: Embedder, images: ImageList, batch_size: int, folder: Path) -> dict[str, Work]:
    """Return the stages by name; each handles all images."""
    batches = [np.stack(batch) for batch in decoded_batches(images, SIZE, batch_size)]

    def read() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(content_digest, images.paths.tolist()))

    def job() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as empty:
            extract_in_parts(model, images, empty, batch_size)

    return {
        "read": read,
        "decode": lambda: list(decoded_batches(images, SIZE, batch_size)),
        "model": lambda: [model.embed(batch) for batch in batches],
        "job": job,
    }


def measure(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Return images per second and CPU milliseconds per image of each stage."""
    if options.data:
        images = list_images(options.data)
    else:
        images = draw_images(folder, options.side, options.images)
    images = spread(images, options.images)
    # Whole batches only: a last batch that is padded would cost as much as a full one.
    count = len(images) - len(images) % options.batch_size or len(images)
    images = images.take(range(count))
    kilobytes = sum(Path(path).stat().st_size for path in images.paths) / count / 1000
    print(
        f"{count} images of {kilobytes:.0f} kB, batches of {options.batch_size}, {options.runtime}"
    )
    model = open_embedder(options, images, folder)
    work = stages(model, images, options.batch_size, folder)
    rows = {}
    for name, (wall, cpu) in interleaved(work, options.rounds).items():
        rows[name] = {"images_per_s": count / wall, "cpu_ms_per_image": 1000 * cpu / count}
        print(f"{name:<7} {count / wall:8.1f} images/s {1000 * cpu / count:8.2f} CPU-ms per image")
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__)
    add = parser.add_argument
    add("--data", metavar="FOLDER", help="folder of images (default: images are drawn)")
    add("--side", type=int, default=640, help="width of drawn images (default: %(default)s)")
    add("--images", type=int, default=512, help="number of images (default: %(default)s)")
    add("--pretrained_model", metavar="FILE.ckpt", help="checkpoint (default: random weights)")
    runtimes = ["tensorflow", "openvino", "openvino-int8"]
    add("--runtime", choices=runtimes, default="tensorflow", help="default: %(default)s")
    add("--batch_size", type=int, default=32, help="images at once (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
    job = rows["job"]
    model = rows["model"]
    shares = {
        "wall": job["images_per_s"] / model["images_per_s"],
        "cpu": model["cpu_ms_per_image"] / job["cpu_ms_per_image"],
    }
    print(f"speed of the job: {shares['wall']:.1%} of the model alone, by CPU {shares['cpu']:.1%}")
    for name, count in CHALLENGE.items():
        minutes = count / job["images_per_s"] / 60
        print(f"{name}: {count:,} images would take {minutes:.0f} minutes (estimate)")
    write_results(options.json, SEED, {"stages": rows, "share_of_model": shares}, **vars(options))


if __name__ == "__main__":
    main()
