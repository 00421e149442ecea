"""Compare the extraction of embeddings with tf.keras.applications.ResNet50 and other runtimes.

    python benchmarks/extract.py [--batch_size=32] [--rounds=7] [--json=extract.json]

Each contender runs ResNet-50 up to its pooled output, on the same random pixels at 224 px. The
weights are random, because they do not change the speed. Printed are images per second, images per
CPU-second and their ratio to Keras' `predict`. The share of peak compares with the largest matrix
products of this machine in the same precision (int8: in float32). OpenVINO (int8 with NNCF), ONNX
Runtime (with tf2onnx) and PyTorch are measured if they are installed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from measuring import build_parser, interleaved, write_results

from delf_ext.features.runtimes.frozen_graph import freeze, frozen_graph, tensorflow_function
from delf_ext.features.runtimes.int8 import quantize
from delf_ext.features.runtimes.networks import open_network
from delf_ext.models.pooling import average_pool
from delf_ext.models.precision import cpu_has_bfloat16, set_mixed_precision
from delf_ext.models.trunks.slim import SlimTrunk

SIZE = 224
SEED = 0
# Side of the matrices that are multiplied to measure the peak.
GEMM = 2048
# For one image. Keras has the published strides, ours are those of v1.5.
KERAS_FLOP = 2 * 3.86e9
OUR_FLOP = 2 * 4.09e9
Contender = Callable[[np.ndarray], object]


def trunk() -> tf.types.experimental.GenericFunction:
    """Return the network as extraction runs it."""
    network = SlimTrunk("resnet_v1_50/block4", "v1.5")
    return tf.function(
        lambda images: average_pool(network(images, training=False)["resnet_v1_50/block4"]),
        input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], tf.uint8)],
    )


def ours() -> Contender:
    """Run our TensorFlow graph."""
    graph = trunk()
    return lambda images: graph(tf.constant(images)).numpy()


def ours_folded() -> Contender:
    """Run our graph with constants folded."""
    graph = tensorflow_function(freeze(trunk()))
    return lambda images: graph(tf.constant(images)).numpy()


def ours_openvino(bfloat16: bool) -> Contender:
    """Run our graph in OpenVINO."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trunk.pb"
        path.write_bytes(frozen_graph(trunk()).SerializeToString())
        return open_network(path, "openvino", bfloat16).compiled(0)


def ours_int8() -> Contender:
    """Run our graph in OpenVINO with int8 weights and activations."""
    pixels = np.random.default_rng(SEED).integers(0, 256, (4, 1, SIZE, SIZE, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "trunk.pb"
        network = Path(folder) / "int8" / "network.xml"
        graph.write_bytes(frozen_graph(trunk()).SerializeToString())
        quantize(graph, list(pixels), network)
        return open_network(network, "openvino").compiled(0)


def ours_onnxruntime() -> Contender:
    """Run our graph in ONNX Runtime."""
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
    """Call `predict`, as users of Keras do."""
    model = tf.keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    return lambda images: model.predict(images.astype(np.float32), verbose=0)


def keras_graph() -> Contender:
    """Call the network of Keras as a graph, without the overhead of `predict`."""
    model = tf.keras.applications.ResNet50(weights=None, include_top=False, pooling="avg")
    graph = tf.function(lambda images: model(images, training=False))
    return lambda images: graph(tf.constant(images.astype(np.float32))).numpy()


def pytorch() -> Contender:
    """Run ResNet-50 in PyTorch."""
    import torch
    from torch_resnet50 import resnet50

    model = resnet50()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            # The pixels stay in the order channels last.
            return model(torch.from_numpy(images).permute(0, 3, 1, 2).float()).numpy()

    return run


def sgemm() -> Contender:
    """Measure the peak in float32 with a matrix product of NumPy."""
    left = np.random.default_rng(SEED).normal(size=(GEMM, GEMM)).astype(np.float32)
    return lambda images: left @ left


def bfloat16_gemm() -> Contender:
    """Measure the peak in bfloat16 with a matrix product of TensorFlow."""
    left = tf.cast(tf.random.normal([GEMM, GEMM], seed=SEED), tf.bfloat16)
    product = tf.function(lambda: tf.linalg.matmul(left, left))
    return lambda images: product().numpy()


def contenders() -> dict[str, Contender]:
    """Return the contenders whose packages and precision are available.

    A name ends in the precision.
    """
    builders = {
        "gemm fp32": sgemm,
        "keras predict fp32": keras,
        "keras graph fp32": keras_graph,
        "ours fp32": ours,
        "ours folded fp32": ours_folded,
        "ours openvino fp32": lambda: ours_openvino(False),
        "ours onnxruntime fp32": ours_onnxruntime,
        "pytorch fp32": pytorch,
        "ours openvino int8": ours_int8,
    }
    if cpu_has_bfloat16():
        builders |= {
            "gemm bf16": bfloat16_gemm,
            "ours bf16": ours,
            "ours folded bf16": ours_folded,
            "ours openvino bf16": lambda: ours_openvino(True),
        }
    else:
        print("this processor has no bfloat16")
    runs = {}
    for name, build in builders.items():
        try:
            runs[name] = build()
        except (ImportError, ValueError) as error:
            print(f"not measured: {name}: {error}")
    return runs


def measure(images: np.ndarray, rounds: int) -> dict[str, tuple[float, float]]:
    """Return wall and CPU seconds of each contender for a batch uint8 [B, S, S, 3]."""
    runs = contenders()

    def prepare(name: str) -> None:
        # The precision applies when a function is called, not only when it is traced.
        set_mixed_precision("bfloat16" if name.endswith("bf16") else "off")
        # A call after a change of precision is slower, and must not be timed.
        runs[name](images[:1])

    def on_batch(run: Contender) -> Callable[[], object]:
        return lambda: run(images)

    work = {name: on_batch(run) for name, run in runs.items()}
    return interleaved(work, rounds, num_warmups=2, prepare=prepare)


def main() -> None:
    """Run the benchmark."""
    parser = build_parser(__doc__, rounds=7)
    batch_help = "images at once (default: %(default)s)"
    parser.add_argument("--batch_size", type=int, default=32, help=batch_help)
    options = parser.parse_args()
    shape = (options.batch_size, SIZE, SIZE, 3)
    images = np.random.default_rng(SEED).integers(0, 256, shape, np.uint8)
    times = measure(images, options.rounds)
    peaks = {
        name.removeprefix("gemm "): 2 * GEMM**3 / cpu
        for name, (_, cpu) in times.items()
        if name.startswith("gemm")
    }
    shown = [f"{name} {peak / 1e9:.0f} GFLOP per CPU-second" for name, peak in peaks.items()]
    print(f"matrix products: {', '.join(shown)}")
    predict_cpu = times["keras predict fp32"][1]
    rows = {}
    for name, (wall, cpu) in times.items():
        if name.startswith("gemm"):
            continue
        per_s = options.batch_size / wall
        per_cpu_s = options.batch_size / cpu
        flop = KERAS_FLOP if name.startswith("keras") else OUR_FLOP
        share = per_cpu_s * flop / peaks.get(name[-4:], peaks["fp32"])
        rows[name] = {
            "images_per_s": per_s,
            "images_per_cpu_s": per_cpu_s,
            "ratio": predict_cpu / cpu,
            "share_of_peak": share,
        }
        print(
            f"{name:<22} {per_s:7.1f} images/s {per_cpu_s:7.1f} per CPU-s "
            f"{predict_cpu / cpu:6.2f}x of predict {share:7.0%} of peak"
        )
    results = {"peaks": peaks, **rows}
    write_results(options.json, SEED, results, rounds=options.rounds, batch_size=options.batch_size)


if __name__ == "__main__":
    main()
