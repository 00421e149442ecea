"""Images per second of our trunk against `tf.keras.applications.ResNet50`, in turn in one process.

    python benchmarks/extract.py [--batch_size=32] [--rounds=7] [--json=extract.json]

Both run ResNet-50 up to its pooled output at 224 px on the same random pixels, with random weights: speed does not depend on
them. Contenders are interleaved; medians are printed, with CPU-seconds beside wall time.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from measuring import medians, timed, write_results

from delf_ext.models.backbones import Backbone
from delf_ext.models.pooling import average_pool
from delf_ext.models.precision import set_mixed_precision

SIZE, SEED = 224, 0
Contender = Callable[[np.ndarray], object]


def ours() -> Contender:
    """The trunk as extraction runs it."""
    backbone = Backbone("resnet_v1_50/block4", "v1.5")
    graph = tf.function(lambda images: average_pool(backbone(images, training=False)["resnet_v1_50/block4"]))
    return lambda images: graph(tf.constant(images)).numpy()


def keras() -> Contender:
    """`predict`, as its users call it."""
    model = tf.keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    return lambda images: model.predict(images.astype(np.float32), verbose=0)


def keras_graph() -> Contender:
    """The same network called as a graph: without what `predict` adds around it."""
    model = tf.keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    graph = tf.function(lambda images: model(images, training=False))
    return lambda images: graph(tf.constant(images.astype(np.float32))).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    options = parser.parse_args()
    images = np.random.default_rng(SEED).integers(0, 256, (options.batch_size, SIZE, SIZE, 3), np.uint8)

    makers = {"keras predict fp32": keras, "keras graph fp32": keras_graph, "ours fp32": ours, "ours bf16": ours}
    contenders = {name: make() for name, make in makers.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for round_number in range(-2, options.rounds):  # two rounds to trace and to settle
        for name, contender in contenders.items():
            set_mixed_precision("bfloat16" if name.endswith("bf16") else "off")  # holds for calls, not only for tracing
            contender(images[:1])  # so that a change of precision is paid outside the clock
            _, measured = timed(lambda contender=contender: contender(images))
            if round_number >= 0:
                times[name].append(measured)

    peer = medians(times["keras predict fp32"])[0]
    rows = {}
    for name, pairs in times.items():
        wall, cpu = medians(pairs)
        speed, cpu_ms = options.batch_size / wall, 1000 * cpu / options.batch_size
        rows[name] = {"images_per_s": speed, "cpu_ms_per_image": cpu_ms, "ratio": peer / wall}
        print(f"{name:<20} {speed:7.1f} images/s  {peer / wall:5.2f}x of keras predict  {cpu_ms:6.1f} CPU-ms per image")
    write_results(options.json, SEED, rows, rounds=options.rounds, batch_size=options.batch_size)


if __name__ == "__main__":
    main()
