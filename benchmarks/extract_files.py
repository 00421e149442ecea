"""From JPEG files to saved embeddings, by stage: what each costs, and what share of the model's own speed the whole job has.

    python benchmarks/extract_files.py [--data=FOLDER | --side=640] [--images=512] [--pretrained_model=FILE.ckpt]
        [--runtime=openvino] [--batch_size=32] [--rounds=5] [--json=extract_files.json]

`read` reads and digests the files; `decode` makes squares of 224 px of them, on all threads; `model` embeds decoded batches;
`job` is all of it, by extract_in_parts into a fresh folder. In turn in one run, the files warm in memory; medians of wall and
CPU seconds. Without --data photographs of --side pixels are drawn; without --pretrained_model weights are random: speed does not
depend on them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from measuring import Seconds, medians, timed, write_results

from data_io.datasets import list_images
from data_io.records import ImageList
from data_io.stores.embedding_parts import content_digest
from delf_ext.features.embedder import Embedder
from delf_ext.features.extraction import decoded_batches
from delf_ext.features.extraction_job import extract_in_parts
from delf_ext.features.network_embedders import in_openvino
from delf_ext.features.runtimes.int8 import in_openvino_int8, spread
from delf_ext.models.trunks.slim import SlimTrunk
from delf_ext.recipes.schema import Trunk
from delf_ext.runs.opening import open_model
from delf_ext.runs.sources import CheckpointSource, Runtime
from pretrained.convert import write_checkpoint

SIZE, SEED = 224, 0
CHALLENGE = {"first round": 7_104, "final": 78_000}  # photographs


def drawn(folder: Path, side: int, count: int) -> ImageList:
    """As benchmarks/decode.py draws them; 16 different ones, since drawing takes longer than embedding."""
    from decode import draw

    rng = np.random.default_rng([SEED, side])
    (folder / "photographs").mkdir()
    for number in range(count):
        path = folder / "photographs" / f"{number:05}.jpg"
        if number < 16:
            draw(path, side, rng)
        else:
            path.write_bytes((path.parent / f"{number % 16:05}.jpg").read_bytes())
    return list_images(folder / "photographs")


def embedder_of(options: argparse.Namespace, images: ImageList, folder: Path) -> Embedder:
    checkpoint, trunk = options.pretrained_model, Trunk()
    if not checkpoint:
        checkpoint, trunk = str(folder / "random.ckpt"), Trunk(layout="v1.5")
        network = SlimTrunk(layout="v1.5")
        network(tf.zeros([1, SIZE, SIZE, 3]))
        weights = {
            variable.name.removesuffix(":0"): variable.numpy() for variable in network.variables
        }
        write_checkpoint(Path(checkpoint), weights)
    source = CheckpointSource(checkpoint, trunk, size_px=SIZE)
    model = open_model(source, Runtime(mixed_precision="off"), store=False, log=print)
    assert isinstance(model, Embedder)
    if options.runtime == "openvino-int8":
        return in_openvino_int8(model, images, folder)
    return in_openvino(model, folder) if options.runtime == "openvino" else model


def stages(
    model: Embedder, images: ImageList, batch_size: int, folder: Path
) -> dict[str, Callable[[], object]]:
    """Each over all images."""
    batches = [np.stack(batch) for batch in decoded_batches(images, SIZE, batch_size)]

    def read() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(content_digest, images.paths.tolist()))

    def job() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            extract_in_parts(model, images, fresh, batch_size)

    return {
        "read": read,
        "decode": lambda: list(decoded_batches(images, SIZE, batch_size)),
        "model": lambda: [model.embed(batch) for batch in batches],
        "job": job,
    }


def measure(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Per stage images/s, and CPU milliseconds of an image."""
    images = (
        list_images(options.data) if options.data else drawn(folder, options.side, options.images)
    )
    images = spread(images, options.images)
    count = len(images) - len(images) % options.batch_size or len(
        images
    )  # whole batches: a filled one is not a fair share
    images = images.take(range(count))
    kilobytes = sum(Path(path).stat().st_size for path in images.paths) / count / 1000
    print(
        f"{count} photographs of {kilobytes:.0f} kB, batches of {options.batch_size}, {options.runtime}"
    )
    times: dict[str, list[Seconds]] = {}
    work = stages(embedder_of(options, images, folder), images, options.batch_size, folder)
    for round_number in range(-1, options.rounds):  # one round to trace and to settle
        for name, stage in work.items():
            measured = timed(stage)[1]
            if round_number >= 0:
                times.setdefault(name, []).append(measured)
    rows = {}
    for name, pairs in times.items():
        wall, cpu = medians(pairs)
        rows[name] = {"images_per_s": count / wall, "cpu_ms_per_image": 1000 * cpu / count}
        print(f"{name:<7} {count / wall:8.1f} images/s {1000 * cpu / count:8.2f} CPU-ms per image")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data")
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--pretrained_model")
    parser.add_argument(
        "--runtime", choices=["tensorflow", "openvino", "openvino-int8"], default="tensorflow"
    )
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
    job, alone = rows["job"], rows["model"]
    shares = {
        "wall": job["images_per_s"] / alone["images_per_s"],
        "cpu": alone["cpu_ms_per_image"] / job["cpu_ms_per_image"],
    }
    print(
        f"the job runs at {shares['wall']:.1%} of the model alone, {shares['cpu']:.1%} by CPU-seconds"
    )
    for name, count in CHALLENGE.items():
        minutes = count / job["images_per_s"] / 60
        print(
            f"{name}: {count:,} photographs would take {minutes:.0f} minutes (an estimate, at the job's rate)"
        )
    write_results(options.json, SEED, {"stages": rows, "share_of_model": shares}, **vars(options))


if __name__ == "__main__":
    main()
