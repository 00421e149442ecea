"""Images per second of our trunk against `tf.keras.applications.ResNet50` and other runtimes, in turn in one process.

    python benchmarks/extract.py [--batch_size=32] [--rounds=7] [--json=extract.json]

All run ResNet-50 up to its pooled output at 224 px on the same random pixels, with random weights: speed does not depend on
them. Contenders are interleaved; medians are printed: images per second and per CPU-second, the latter against `predict`, and as
a share of the machine's largest matrix products in the same run, int8 as a share of those in fp32. OpenVINO (for int8 with
NNCF), ONNX Runtime (with tf2onnx) and PyTorch take part where they are installed.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from measuring import Seconds, medians, timed, write_results

from delf_ext.features.runtimes.frozen_graph import frozen_graph, tensorflow_function
from delf_ext.features.runtimes.int8 import quantize
from delf_ext.features.runtimes.networks import open_network
from delf_ext.models.pooling import average_pool
from delf_ext.models.precision import cpu_has_bfloat16, set_mixed_precision
from delf_ext.models.trunks.slim import SlimTrunk

SIZE, SEED, GEMM = 224, 0, 2048
FLOP = {
    "keras": 2 * 3.86e9,
    "ours": 2 * 4.09e9,
}  # of an image: Keras has the published strides, ours are v1.5's
Contender = Callable[[np.ndarray], object]


def trunk() -> tf.types.experimental.GenericFunction:
    """As extraction runs it."""
    network = SlimTrunk("resnet_v1_50/block4", "v1.5")
    return tf.function(
        lambda images: average_pool(network(images, training=False)["resnet_v1_50/block4"]),
        input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8)],
    )


def ours() -> Contender:
    graph = trunk()
    return lambda images: graph(tf.constant(images)).numpy()


def ours_folded() -> Contender:
    graph = tensorflow_function(frozen_graph(trunk()))
    return lambda images: graph(tf.constant(images)).numpy()


def ours_openvino(bfloat16: bool) -> Contender:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trunk.pb"
        path.write_bytes(frozen_graph(trunk()).SerializeToString())
        return open_network(path, "openvino", bfloat16).compiled(0)


def ours_int8() -> Contender:
    pixels = np.random.default_rng(SEED).integers(0, 256, (4, 1, SIZE, SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        graph, network = Path(folder) / "trunk.pb", Path(folder) / "int8" / "network.xml"
        graph.write_bytes(frozen_graph(trunk()).SerializeToString())
        quantize(graph, list(pixels), network)
        return open_network(network, "openvino").compiled(0)


def ours_onnxruntime() -> Contender:
    import tf2onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trunk.onnx"
        tf2onnx.convert.from_function(
            trunk(),
            [tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8)],
            opset=17,
            output_path=str(path),
        )
        return open_network(path, "onnxruntime").compiled(0)


def keras() -> Contender:
    """`predict`, as its users call it."""
    model = tf.keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    return lambda images: model.predict(images.astype(np.float32), verbose=0)


def keras_graph() -> Contender:
    """The same network called as a graph: without what `predict` adds around it."""
    model = tf.keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    graph = tf.function(lambda images: model(images, training=False))
    return lambda images: graph(tf.constant(images.astype(np.float32))).numpy()


def pytorch() -> Contender:
    import torch
    from torch_resnet50 import resnet50

    model = resnet50()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(
                torch.from_numpy(images).permute(0, 3, 1, 2).float()
            ).numpy()  # channels last, as they lie there

    return run


def sgemm() -> Contender:
    """The machine's peak in float32: NumPy's matrix product."""
    left = np.random.default_rng(SEED).normal(size=(GEMM, GEMM)).astype(np.float32)
    return lambda images: left @ left


def bfloat16_gemm() -> Contender:
    left = tf.cast(tf.random.normal([GEMM, GEMM], seed=SEED), tf.bfloat16)
    product = tf.function(lambda: tf.linalg.matmul(left, left))
    return lambda images: product().numpy()


def contenders() -> dict[str, Contender]:
    """The name ends in the precision; what is not installed, or what this processor has not, is left out, saying so."""
    makers = {"gemm fp32": sgemm, "keras predict fp32": keras, "keras graph fp32": keras_graph}
    makers |= {
        "ours fp32": ours,
        "ours folded fp32": ours_folded,
        "ours openvino fp32": lambda: ours_openvino(False),
    }
    makers |= {
        "ours onnxruntime fp32": ours_onnxruntime,
        "pytorch fp32": pytorch,
        "ours openvino int8": ours_int8,
    }
    if cpu_has_bfloat16():
        makers |= {"gemm bf16": bfloat16_gemm, "ours bf16": ours, "ours folded bf16": ours_folded}
        makers |= {"ours openvino bf16": lambda: ours_openvino(True)}
    else:
        print("this processor has no bfloat16")
    made = {}
    for name, make in makers.items():
        try:
            made[name] = make()
        except (ImportError, ValueError) as error:
            print(f"left out: {name}: {error}")
    return made


def interleaved(
    made: dict[str, Contender], images: np.ndarray, rounds: int
) -> dict[str, list[Seconds]]:
    times: dict[str, list[Seconds]] = {name: [] for name in made}
    for round_number in range(-2, rounds):  # two rounds to trace and to settle
        for name, contender in made.items():
            set_mixed_precision(
                "bfloat16" if name.endswith("bf16") else "off"
            )  # holds for calls, not only for tracing
            contender(images[:1])  # so that a change of precision is paid outside the clock
            _, measured = timed(lambda contender=contender: contender(images))
            if round_number >= 0:
                times[name].append(measured)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json")
    options = parser.parse_args()
    images = np.random.default_rng(SEED).integers(
        0, 256, (options.batch_size, SIZE, SIZE, 3), np.uint8
    )

    measured = {
        name: medians(pairs)
        for name, pairs in interleaved(contenders(), images, options.rounds).items()
    }
    peaks = {
        name[-4:]: 2 * GEMM**3 / cpu
        for name, (_, cpu) in measured.items()
        if name.startswith("gemm")
    }
    peer = measured["keras predict fp32"][1]
    print(
        "matrix products: "
        + ", ".join(f"{name} {peak / 1e9:.0f} GFLOP per CPU-second" for name, peak in peaks.items())
    )
    rows = {}
    for name, (wall, cpu) in measured.items():
        if name.startswith("gemm"):
            continue
        per_s, per_cpu_s = options.batch_size / wall, options.batch_size / cpu
        share = (
            per_cpu_s
            * FLOP["keras" if name.startswith("keras") else "ours"]
            / peaks.get(name[-4:], peaks["fp32"])
        )
        rows[name] = {
            "images_per_s": per_s,
            "images_per_cpu_s": per_cpu_s,
            "ratio": peer / cpu,
            "share_of_peak": share,
        }
        print(
            f"{name:<22} {per_s:7.1f} images/s {per_cpu_s:7.1f} per CPU-s {peer / cpu:6.2f}x of predict {share:7.0%} of peak"
        )
    write_results(
        options.json,
        SEED,
        {"peaks": peaks, **rows},
        rounds=options.rounds,
        batch_size=options.batch_size,
    )


if __name__ == "__main__":
    main()
