"""DELF extraction, batched over images and scales, against one pyramid level of one image at a time in fp32.

    python benchmarks/extract_local.py [--images=16] [--rounds=5] [--json=extract_local.json]

The same network (ResNet-50 up to block3, random weights: speed does not depend on them), the same levels, whitening and choice of
1,000 features for every contender; photographs are random pixels in four common shapes. The peers run each level as a batch of
one, as the published DELF does: as a traced graph, and eagerly. Contenders take turns; medians are printed. bfloat16 helps only
where the processor has it, and the first line says whether it does.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from itertools import groupby

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from measuring import medians, timed, write_results
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


def extractor() -> DelfExtractor:
    trunk = SlimTrunk(ENDPOINT, "v1.5")
    trunk(tf.zeros([1, 64, 64, 3]))
    raw = DelfExtractor(Delf(trunk, ENDPOINT), DelfConfig())
    projection = np.linalg.qr(np.random.default_rng(SEED).normal(size=(1024, 128)))[0].astype(
        np.float32
    )
    return DelfExtractor(
        raw.network, raw.config, Whitening(np.zeros(1024, np.float32), projection, raw.model_digest)
    )


def batched(delf: DelfExtractor, photos: list[np.ndarray]) -> None:
    for _, alike in groupby(
        photos, key=lambda photo: delf.shape_class((photo.shape[1], photo.shape[0]))
    ):
        together = list(alike)
        for start in range(0, len(together), 8):
            delf.extract(together[start : start + 8])


def one_at_a_time(delf: DelfExtractor, run: Callable, photos: list[np.ndarray]) -> None:
    for photo in photos:
        attention, descriptors = [], []
        for level in delf.shape_class((photo.shape[1], photo.shape[0])):
            pixels = np.asarray(Image.fromarray(photo).resize(level, Image.Resampling.BILINEAR))
            level_attention, level_descriptors = run(tf.constant(pixels[None]))
            attention.append(level_attention.numpy().ravel())
            descriptors.append(level_descriptors.numpy().reshape(-1, delf.dimension))
        scores = np.concatenate(attention)
        rows = select(
            np.zeros((len(scores), 2), np.float32),
            np.ones(len(scores), np.float32),
            scores,
            delf.config.max_features,
        )
        np.concatenate(descriptors)[rows]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    options = parser.parse_args()
    rng, delf = np.random.default_rng(SEED), extractor()
    photos = [
        rng.integers(0, 256, (*SHAPES[number * len(SHAPES) // options.images], 3), np.uint8)
        for number in range(options.images)
    ]
    graph = tf.function(
        delf.network, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)]
    )
    contenders = {
        "one level, eager, fp32": ("off", lambda: one_at_a_time(delf, delf.network, photos)),
        "one level, graph, fp32": ("off", lambda: one_at_a_time(delf, graph, photos)),
        "ours fp32": ("off", lambda: batched(delf, photos)),
        "ours bf16": ("bfloat16", lambda: batched(delf, photos)),
    }
    print(f"processor has bfloat16: {cpu_has_bfloat16()}")
    if not cpu_has_bfloat16():
        del contenders["ours bf16"]  # it would be emulated, and nobody gets it by default
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for round_number in range(-1, options.rounds):  # one round to trace and to settle
        for name, (precision, run) in contenders.items():
            set_mixed_precision(precision)
            _, measured = timed(run)
            if round_number >= 0:
                times[name].append(measured)
    middle = {name: medians(pairs) for name, pairs in times.items()}
    peer_wall, peer_cpu = middle["one level, graph, fp32"]
    rows = {}
    for name, (wall, cpu) in middle.items():
        each, each_cpu = wall / len(photos), cpu / len(photos)
        rows[name] = {
            "s_per_image": each,
            "cpu_s_per_image": each_cpu,
            "ratio": peer_wall / wall,
            "cpu_ratio": peer_cpu / cpu,
        }
        print(f"{name:<24} {each:6.2f} s, {each_cpu:6.2f} CPU-s per image", end="  ")
        print(f"{peer_wall / wall:5.2f}x wall  {peer_cpu / cpu:5.2f}x CPU of the graph")
    write_results(
        options.json,
        SEED,
        rows,
        rounds=options.rounds,
        images=len(photos),
        bfloat16=cpu_has_bfloat16(),
    )


if __name__ == "__main__":
    main()
