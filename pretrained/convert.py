"""ResNet-50 weights of others, as a checkpoint in TF-Slim's names.

`python -m pretrained.convert SOURCE --out=OUT.ckpt [--from=keras|torchvision]` writes OUT.ckpt.index and OUT.ckpt.data-*, and
OUT.ckpt.json, which says what they are (`pretrained.manifest.describe` reads it). Nothing is unpickled.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from data_io.artifacts import write_json
from pretrained.manifest import WeightsInfo, sha256_of, side_file_of
from pretrained.resnet50_names import SCOPE, conv_scopes, keras_layers, kernel_shape, torch_modules
from pretrained.weight_files import PICKLE_HINT, Tensors, read_h5, read_state_dict

KERAS_EPSILON, SLIM_EPSILON = (
    1.001e-5,
    1e-5,
)  # batch norm: keras/applications/resnet.py; tf_slim/nets/resnet_utils.py
CAFFE_MEANS_RGB = (123.68, 116.779, 103.939)  # keras/applications/imagenet_utils.py, there in BGR
TORCHVISION_MEAN, TORCHVISION_STD = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # of RGB in 0..1, torchvision's transforms


def convert(source: str | Path, out: str | Path, kind: str | None = None) -> WeightsInfo:
    """Reads `source` and writes the checkpoint `out` (a path prefix) with its side file, each file whole or not at all.

    kind: `keras` or `torchvision`; None: by the file name. Raises: ValueError naming the file and what is wrong with it.
    """
    source, out = Path(source), Path(out)
    kind = kind or {".h5": "keras", ".npz": "torchvision", ".safetensors": "torchvision"}.get(
        source.suffix.lower()
    )
    if kind not in ("keras", "torchvision"):
        raise ValueError(
            f"{source}: expected .h5 (Keras), .npz or .safetensors (torchvision). {PICKLE_HINT}"
        )
    try:
        tensors = (
            from_keras(read_h5(source))
            if kind == "keras"
            else from_torchvision(read_state_dict(source))
        )
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    means = (
        CAFFE_MEANS_RGB
        if kind == "keras"
        else tuple(round(255 * mean, 3) for mean in TORCHVISION_MEAN)
    )
    digests = write_checkpoint(out, tensors)
    info = WeightsInfo(
        name=out.name.removesuffix(".ckpt"),
        backbone=SCOPE,
        layout="keras" if kind == "keras" else "v1.5",
        channels="RGB",
        subtract=(means[0], means[1], means[2]),
        licence="that of the source file",
        source=f"converted from {source.name} ({kind}), sha256 {sha256_of(source)}",
        files_sha256=dict(digests),
    )
    write_json(side_file_of(out), dataclasses.asdict(info))
    return info


def from_keras(source: Mapping[str, np.ndarray]) -> Tensors:
    """tf.keras.applications.ResNet50 weights (`layer/weight` -> array) -> TF-Slim names, layout `keras`.

    A convolution's bias b moves into the batch norm behind it (moving_mean - b), its epsilon of 1.001e-5 into the moving
    variance, and conv1 reads RGB instead of BGR. Raises: ValueError that lists missing, unexpected and misshapen tensors.
    """
    names = {scope: keras_layers(scope) for scope in conv_scopes()}
    expected = {f"{conv}/{part}" for conv, _ in names.values() for part in ("kernel", "bias")}
    expected |= {
        f"{norm}/{part}"
        for _, norm in names.values()
        for part in ("gamma", "beta", "moving_mean", "moving_variance")
    }
    _require_names(source, expected, optional={"predictions/kernel", "predictions/bias"})
    tensors: Tensors = {}
    for scope, (conv, norm) in names.items():
        tensors[f"{scope}/weights"] = source[f"{conv}/kernel"]
        tensors[f"{scope}/BatchNorm/gamma"] = source[f"{norm}/gamma"]
        tensors[f"{scope}/BatchNorm/beta"] = source[f"{norm}/beta"]
        tensors[f"{scope}/BatchNorm/moving_mean"] = (
            _double(source[f"{norm}/moving_mean"]) - source[f"{conv}/bias"]
        )
        variance = _double(source[f"{norm}/moving_variance"]) + (KERAS_EPSILON - SLIM_EPSILON)
        tensors[f"{scope}/BatchNorm/moving_variance"] = variance
    tensors[f"{SCOPE}/conv1/weights"] = tensors[f"{SCOPE}/conv1/weights"][:, :, ::-1]
    if "predictions/kernel" in source:
        tensors[f"{SCOPE}/logits/weights"] = source["predictions/kernel"][None, None]
        tensors[f"{SCOPE}/logits/biases"] = source["predictions/bias"]
    return _checked(tensors)


def from_torchvision(source: Mapping[str, np.ndarray]) -> Tensors:
    """A torchvision ResNet-50 state dict -> TF-Slim names, layout `v1.5`.

    Kernels go from OIHW to HWIO; (x / 255 - mean) / std becomes x - 255 mean with conv1 divided by 255 std.
    Raises: ValueError that lists missing, unexpected and misshapen tensors.
    """
    source = {
        name: array for name, array in source.items() if not name.endswith("num_batches_tracked")
    }
    names = {scope: torch_modules(scope) for scope in conv_scopes()}
    parts = {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }
    expected = {f"{conv}.weight" for conv, _ in names.values()}
    expected |= {f"{norm}.{part}" for _, norm in names.values() for part in parts.values()}
    _require_names(source, expected, optional={"fc.weight", "fc.bias"})
    tensors: Tensors = {}
    for scope, (conv, norm) in names.items():
        tensors[f"{scope}/weights"] = source[f"{conv}.weight"].transpose(2, 3, 1, 0)
        for slim_part, part in parts.items():
            tensors[f"{scope}/BatchNorm/{slim_part}"] = source[f"{norm}.{part}"]
    tensors[f"{SCOPE}/conv1/weights"] = tensors[f"{SCOPE}/conv1/weights"] / (
        255 * np.reshape(TORCHVISION_STD, (3, 1))
    )
    if "fc.weight" in source:
        tensors[f"{SCOPE}/logits/weights"] = source["fc.weight"].T[None, None]
        tensors[f"{SCOPE}/logits/biases"] = source["fc.bias"]
    return _checked(tensors)


def _double(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float64)


def _require_names(source: Iterable[str], expected: set[str], optional: set[str]) -> None:
    found = set(source)
    top = optional if found & optional else set()  # both of the top's tensors or none
    missing, unexpected = sorted((expected | top) - found), sorted(found - expected - optional)
    if missing or unexpected:
        raise ValueError(
            f"not a ResNet-50. Missing: {', '.join(missing) or 'none'}. Unexpected: {', '.join(unexpected) or 'none'}."
        )


def _checked(tensors: Tensors) -> Tensors:
    """float32, contiguous, and of ResNet-50's shapes: ResNeXt-50 and Wide ResNet-50 have the same names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for scope in conv_scopes():
        shapes[f"{scope}/weights"] = kernel_shape(scope)
        for part in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"{scope}/BatchNorm/{part}"] = kernel_shape(scope)[3:]
    if f"{SCOPE}/logits/biases" in tensors:
        classes = tensors[f"{SCOPE}/logits/biases"].size
        shapes |= {
            f"{SCOPE}/logits/weights": (1, 1, 2048, classes),
            f"{SCOPE}/logits/biases": (classes,),
        }
    wrong = [
        f"{name} {tensors[name].shape} instead of {shape}"
        for name, shape in shapes.items()
        if tensors[name].shape != shape
    ]
    if wrong:
        raise ValueError(f"not a ResNet-50. Other shapes: {'; '.join(wrong)}.")
    return {name: np.ascontiguousarray(tensors[name], np.float32) for name in shapes}


def write_checkpoint(prefix: Path, tensors: Tensors) -> dict[str, str]:
    """A V2 checkpoint with plain tensor names at `prefix`; returns file name -> sha256 of its two files."""
    import tensorflow as tf

    prefix.parent.mkdir(parents=True, exist_ok=True)
    endings = (".data-00000-of-00001", ".index")
    with tempfile.TemporaryDirectory(prefix=f".{prefix.name}.", dir=prefix.parent) as folder:
        temporary = f"{folder}/{prefix.name}"
        names = sorted(tensors)
        tf.raw_ops.SaveV2(
            prefix=temporary,
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tensors[name] for name in names],
        )
        # An index beside other data would be worse than none; the side file of an earlier conversion goes with it.
        Path(f"{prefix}.index").unlink(missing_ok=True)
        side_file_of(prefix).unlink(missing_ok=True)
        for ending in endings:
            os.replace(f"{temporary}{ending}", f"{prefix}{ending}")
    return {f"{prefix.name}{ending}": sha256_of(Path(f"{prefix}{ending}")) for ending in endings}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pretrained.convert",
        description="Turns ResNet-50 weights of Keras (.h5) or torchvision (.npz, .safetensors) into a TF-Slim checkpoint.",
    )
    parser.add_argument("source", help="the weights file")
    parser.add_argument(
        "--out", required=True, metavar="OUT.ckpt", help="path prefix of the checkpoint to write"
    )
    parser.add_argument(
        "--from",
        dest="kind",
        choices=("keras", "torchvision"),
        help="origin (default: by the file name)",
    )
    args = parser.parse_args(argv)
    try:
        info = convert(args.source, args.out, args.kind)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{args.out}: layout {info.layout}, input RGB 0..255 minus {info.subtract}; load it by this path."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
