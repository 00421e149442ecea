"""Compare batched DELF extraction with one image and one pyramid level at a time.

    python benchmarks/extract_local.py [--images=16] [--rounds=5] [--json=extract_local.json]

All contenders have the same network (ResNet-50 up to block3, random weights, because they do not
change the speed), the same levels, whitening and choice of 1,000 features. The images are random
pixels in four common shapes. The peers run each level as a batch of one, like the published DELF:
as a traced graph, and eagerly. bfloat16 is measured only if the processor has it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import groupby

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from measuring import Work, build_parser, interleaved, write_results
from PIL import Image

from delf_ext.features.local.delf import DelfExtractor
from delf_ext.features.local.delf_config import DelfConfig
from delf_ext.features.local.keypoints import select
from delf_ext.features.local.whitening import Whitening
from delf_ext.models.delf import Delf
from delf_ext.models.precision import cpu_has_bfloat16, set_mixed_precision
from delf_ext.models.trunks.slim import SlimTrunk

SEED = 0
SHAPES = ((480, 640), (640, 480), (500, 500), (500, 375))
ENDPOINT = "resnet_v1_50/block3"
PEER = "one level, graph, fp32"


def build_extractor() -> DelfExtractor:
    """Build an extractor with random weights and a random projection to 128 dimensions."""
    trunk = SlimTrunk(ENDPOINT, "v1.5")
    trunk(tf.zeros([1, 64, 64, 3]))
    raw = DelfExtractor(Delf(trunk, ENDPOINT), DelfConfig())
    matrix = np.random.default_rng(SEED).normal(size=(1024, 128))
    projection = np.linalg.qr(matrix)[0].astype(np.float32)
    whitening = Whitening(np.zeros(1024, np.float32), projection, raw.model_digest)
    return DelfExtractor(raw.network, raw.config, whitening)


def size_of(image: np.ndarray) -> tuple[int, int]:
    """Return width and height of uint8 [H, W, 3]."""
    return image.shape[1], image.shape[0]


def extract_batched(delf: DelfExtractor, images: list[np.ndarray]) -> None:
    """Extract in batches of up to eight images of one shape class."""
    for _, group in groupby(images, key=lambda image: delf.shape_class(size_of(image))):
        same_shape = list(group)
        for start in range(0, len(same_shape), 8):
            delf.extract(same_shape[start : start + 8])


def extract_one_by_one(delf: DelfExtractor, network: Callable, images: list[np.ndarray]) -> None:
    """Extract one level of one image at a time, as the published DELF does."""
    for image in images:
        attention = []
        descriptors = []
        for level in delf.shape_class(size_of(image)):
            pixels = np.asarray(Image.fromarray(image).resize(level, Image.Resampling.BILINEAR))
            level_attention, level_descriptors = network(tf.constant(pixels[None]))
            attention.append(level_attention.numpy().ravel())
            descriptors.append(level_descriptors.numpy().reshape(-1, delf.dimension))
        scores = np.concatenate(attention)
        positions = np.zeros((len(scores), 2), np.float32)
        scales = np.ones(len(scores), np.float32)
        config = delf.config
        rows = select(positions, scales, scores, config.max_features, config.nms_iou)
        # Not used: the published DELF also joins and selects, so the benchmark must time it.
        np.concatenate(descriptors)[rows]


def contenders(delf: DelfExtractor, images: list[np.ndarray]) -> dict[str, Work]:
    """Return the contenders by name; a name ends in the precision."""
    signature = [tf.TensorSpec([None, None, None, 3], tf.uint8)]
    graph = tf.function(delf.network, input_signature=signature)
    work: dict[str, Work] = {
        "one level, eager, fp32": lambda: extract_one_by_one(delf, delf.network, images),
        PEER: lambda: extract_one_by_one(delf, graph, images),
        "ours fp32": lambda: extract_batched(delf, images),
    }
    # Without the processor's support bfloat16 is emulated, which is never the default.
    if cpu_has_bfloat16():
        work["ours bf16"] = lambda: extract_batched(delf, images)
    return work


def set_precision(name: str) -> None:
    """Set the precision that a contender's name ends in."""
    set_mixed_precision("bfloat16" if name.endswith("bf16") else "off")


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__)
    images_help = "number of images (default: %(default)s)"
    parser.add_argument("--images", type=int, default=16, help=images_help)
    options = parser.parse_args()
    rng = np.random.default_rng(SEED)
    count = options.images
    shapes = [SHAPES[number * len(SHAPES) // count] for number in range(count)]
    delf = build_extractor()
    images = [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]
    print(f"processor has bfloat16: {cpu_has_bfloat16()}")
    times = interleaved(contenders(delf, images), options.rounds, prepare=set_precision)
    peer_wall, peer_cpu = times[PEER]
    rows = {}
    for name, (wall, cpu) in times.items():
        rows[name] = {
            "s_per_image": wall / count,
            "cpu_s_per_image": cpu / count,
            "ratio": peer_wall / wall,
            "cpu_ratio": peer_cpu / cpu,
        }
        print(
            f"{name:<24} {wall / count:6.2f} s, {cpu / count:6.2f} CPU-s per image  "
            f"{peer_wall / wall:5.2f}x wall  {peer_cpu / cpu:5.2f}x CPU of the graph"
        )
    write_results(
        options.json,
        SEED,
        rows,
        rounds=options.rounds,
        images=count,
        bfloat16=cpu_has_bfloat16(),
    )


if __name__ == "__main__":
    main()
