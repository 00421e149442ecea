"""Convert ResNet-50 weights of Keras or torchvision to a checkpoint with TF-Slim's names.

`python -m pretrained.convert SOURCE --out=OUT.ckpt [--from=keras|torchvision]` writes
OUT.ckpt.index, OUT.ckpt.data-* and their description OUT.ckpt.json, which
`pretrained.manifest.describe` reads. No code of the file is run.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_io.files.artifacts import write_json
from data_io.files.names import print_any_name
from data_io.files.output_files import home_path
from data_io.finite import require_finite
from data_io.messages import error_line
from data_io.weight_kinds import CONVERTED, weight_kind, why_no_checkpoint
from pretrained.keras_files import read_keras
from pretrained.manifest import WeightsInfo, sha256_of, side_file_of
from pretrained.resnet_names import (
    ANCHOR,
    SCOPE,
    conv_scopes,
    keras_layers,
    kernel_shape,
    torch_modules,
)
from pretrained.torch_files import AVERAGES, Tensors
from pretrained.torch_networks import find_network
from pretrained.weight_files import find_prefix, read_state_dict

# Batch norm. Sources: keras/applications/resnet.py; tf_slim/nets/resnet_utils.py.
KERAS_EPSILON = 1.001e-5
SLIM_EPSILON = 1e-5
# Source: keras/applications/imagenet_utils.py, which has them in the order BGR.
CAFFE_MEANS_RGB = (123.68, 116.779, 103.939)
# 255 * (0.485, 0.456, 0.406). Source: torchvision's transforms, as the standard deviation.
TORCHVISION_MEANS_RGB = (123.675, 116.28, 103.53)
# Of RGB in 0..1.
TORCHVISION_STD = (0.229, 0.224, 0.225)
KINDS = ("keras", "torchvision")
KIND_OF_ENDING = {
    ".h5": "keras",
    ".hdf5": "keras",
    ".keras": "keras",
    ".npz": "torchvision",
    ".pt": "torchvision",
    ".pth": "torchvision",
    ".safetensors": "torchvision",
}
NUM_SHOWN = 4
# A tensor of torchvision's ResNet, of any depth.
RESNET_TENSOR = re.compile(r"(conv1|bn1|layer\d+\..+|fc)\.\w+$")
# Part of a layer's name -> the network that has it; the deepest first.
OTHER_NETWORKS = {
    "preact_bn": "ResNet-50 V2",
    "conv4_block36_": "ResNet-152",
    "conv4_block23_": "ResNet-101",
    "res4b35": "ResNet-152",
    "res4b22": "ResNet-101",
    "layer3.35.": "ResNet-152",
    "layer3.22.": "ResNet-101",
}
# TF-Slim's name of a batch norm's weight -> torchvision's name.
TORCHVISION_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
NORM_WEIGHTS = tuple(TORCHVISION_NORM)


def convert(
    source: str | Path,
    out: str | Path,
    kind: str | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> WeightsInfo:
    """Convert a weights file to a checkpoint with its side file.

    Args:
        source: the weights file.
        out: path prefix of the checkpoint to write.
        kind: `keras` or `torchvision`; None: from the content of the file.
        log: called with one line for each thing that a user should know.

    Returns:
        The description that was written to the side file.

    Raises:
        ValueError: the kind is unknown, or the file is damaged, not a ResNet-50, or has numbers
            that are not finite.
    """
    source = Path(source)
    out = Path(out)
    if not source.is_file():
        raise ValueError(f"{source}: No such file.")
    kind = kind or _kind_of(source)
    is_keras = kind == "keras"
    try:
        tensors = _keras_tensors(source, log) if is_keras else _torch_tensors(source, log)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    require_finite(source, tensors)
    digests = write_checkpoint(out, tensors)
    info = WeightsInfo(
        name=out.name.removesuffix(".ckpt"),
        backbone=SCOPE,
        layout="keras" if is_keras else "v1.5",
        channels="RGB",
        subtract=CAFFE_MEANS_RGB if is_keras else TORCHVISION_MEANS_RGB,
        licence="that of the source file",
        source=f"converted from {source.name} ({kind}), sha256 {sha256_of(source)}",
        files_sha256=dict(digests),
    )
    write_json(side_file_of(out), dataclasses.asdict(info))
    return info


def _kind_of(source: Path) -> str:
    """Return "keras" or "torchvision", by the content of a file; of a damaged one by its ending."""
    found = weight_kind(source)
    if found == "tensorflow":
        raise ValueError(
            f"{source}: is a TensorFlow checkpoint already. Pass it with --pretrained_model."
        )
    kind = "keras" if found == "keras" else KIND_OF_ENDING.get(source.suffix.lower())
    if found in CONVERTED and found != "keras":
        kind = "torchvision"
    if kind is None:
        raise ValueError(
            f"{source}: {why_no_checkpoint(source)}. Expected .h5, .keras (Keras), .pth, .npz or "
            ".safetensors (torchvision)."
        )
    return kind


def _keras_tensors(source: Path, log: Callable[[str], None]) -> Tensors:
    weights = read_keras(source)
    tensors = from_keras(weights.tensors, weights.epsilons)
    _say_left_out(weights.left_out, log)
    log(
        "input: the weights are taken to expect tf.keras.applications.resnet50.preprocess_input "
        "(BGR minus means); the checkpoint expects the same as RGB. Weights that were trained on "
        "other input, such as pixels / 255, give bad embeddings"
    )
    return tensors


def _torch_tensors(source: Path, log: Callable[[str], None]) -> Tensors:
    state, key = read_state_dict(source)
    if key in AVERAGES:
        log(f"the moving averages of the weights are used ({key})")
    if find_prefix(state, ANCHOR) is None and find_network(state) is not None:
        raise ValueError("this network needs no conversion. Pass it with --pretrained_model.")
    prefix, network, left_out = split_state_dict(state)
    if prefix:
        log(f"the names in the file begin with {prefix}")
    tensors = from_torchvision(network)
    _say_left_out(left_out, log)
    return tensors


def _say_left_out(names: Sequence[str], log: Callable[[str], None]) -> None:
    if names:
        more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
        log(f"left out, not of the ResNet-50: {', '.join(names[:NUM_SHOWN])}{more}")


def from_keras(
    source: Mapping[str, np.ndarray], epsilons: Mapping[str, float] | None = None
) -> Tensors:
    """Convert weights of tf.keras.applications.ResNet50 to TF-Slim's names, layout `keras`.

    TF-Slim's convolutions have no bias b, so moving_mean becomes moving_mean - b. The difference of
    the two epsilons is added to moving_variance. conv1 reads RGB instead of BGR.

    Args:
        source: `layer/weight` -> array.
        epsilons: layer -> epsilon of a batch norm that differs from KERAS_EPSILON.

    Returns:
        TF-Slim's name -> float32 array.

    Raises:
        ValueError: tensors are missing or unexpected, or have the wrong shape.
    """
    names = {scope: keras_layers(scope) for scope in conv_scopes()}
    expected = {f"{conv}/{part}" for conv, _ in names.values() for part in ("kernel", "bias")}
    expected |= {f"{norm}/{part}" for _, norm in names.values() for part in NORM_WEIGHTS}
    _require_names(source, expected, optional={"predictions/kernel", "predictions/bias"})
    if source["conv1_conv/kernel"].shape == (64, 3, 7, 7):
        raise ValueError(
            "its kernels have the order of Theano (th_dim_ordering). Take the file of the same "
            "weights whose name has tf_dim_ordering_tf_kernels."
        )
    epsilons = epsilons or {}
    tensors: Tensors = {}
    for scope, (conv, norm) in names.items():
        mean = np.asarray(source[f"{norm}/moving_mean"], np.float64)
        variance = np.asarray(source[f"{norm}/moving_variance"], np.float64)
        tensors[f"{scope}/weights"] = source[f"{conv}/kernel"]
        tensors[f"{scope}/BatchNorm/gamma"] = source[f"{norm}/gamma"]
        tensors[f"{scope}/BatchNorm/beta"] = source[f"{norm}/beta"]
        tensors[f"{scope}/BatchNorm/moving_mean"] = mean - source[f"{conv}/bias"]
        epsilon = epsilons.get(norm, KERAS_EPSILON)
        tensors[f"{scope}/BatchNorm/moving_variance"] = variance + (epsilon - SLIM_EPSILON)
    tensors[f"{SCOPE}/conv1/weights"] = tensors[f"{SCOPE}/conv1/weights"][:, :, ::-1]
    if "predictions/kernel" in source:
        tensors[f"{SCOPE}/logits/weights"] = source["predictions/kernel"][None, None]
        tensors[f"{SCOPE}/logits/biases"] = source["predictions/bias"]
    return _checked(tensors)


def from_torchvision(source: Mapping[str, np.ndarray]) -> Tensors:
    """Convert a state dict of torchvision's ResNet-50 to TF-Slim's names, layout `v1.5`.

    The axes of kernels change from OIHW to HWIO. torchvision's input is (x / 255 - mean) / std and
    ours is x - 255 * mean, so conv1 is divided by 255 * std.

    Args:
        source: tensor name -> array.

    Returns:
        TF-Slim's name -> float32 array.

    Raises:
        ValueError: tensors are missing or unexpected, or have the wrong shape.
    """
    source = {
        name: array for name, array in source.items() if not name.endswith("num_batches_tracked")
    }
    names = {scope: torch_modules(scope) for scope in conv_scopes()}
    norm_parts = TORCHVISION_NORM.values()
    expected = {f"{conv}.weight" for conv, _ in names.values()}
    expected |= {f"{norm}.{part}" for _, norm in names.values() for part in norm_parts}
    _require_names(source, expected, optional={"fc.weight", "fc.bias"})
    tensors: Tensors = {}
    for scope, (conv, norm) in names.items():
        tensors[f"{scope}/weights"] = source[f"{conv}.weight"].transpose(2, 3, 1, 0)
        for slim_part, part in TORCHVISION_NORM.items():
            tensors[f"{scope}/BatchNorm/{slim_part}"] = source[f"{norm}.{part}"]
    divisor = 255 * np.reshape(TORCHVISION_STD, (3, 1))
    tensors[f"{SCOPE}/conv1/weights"] = tensors[f"{SCOPE}/conv1/weights"] / divisor
    if "fc.weight" in source:
        tensors[f"{SCOPE}/logits/weights"] = source["fc.weight"].T[None, None]
        tensors[f"{SCOPE}/logits/biases"] = source["fc.bias"]
    return _checked(tensors)


def split_state_dict(source: Mapping[str, np.ndarray]) -> tuple[str, Tensors, tuple[str, ...]]:
    """Find a ResNet among the tensors of a state dict.

    Args:
        source: tensor name -> array.

    Returns:
        What is in front of its names, such as "module."; its tensors without that; and the names
        of the other tensors.

    Raises:
        ValueError: there are two ResNets.
    """
    prefix = find_prefix(source, "layer1.0.conv1.weight") or ""
    network: Tensors = {}
    others = []
    for name, values in source.items():
        if name.startswith(prefix) and RESNET_TENSOR.match(name.removeprefix(prefix)):
            network[name.removeprefix(prefix)] = values
        else:
            others.append(name)
    return prefix, network, tuple(others)


def _require_names(source: Iterable[str], expected: set[str], optional: set[str]) -> None:
    names = set(source)
    # If the file has one tensor of the classifier, it must have both.
    required = expected | optional if names & optional else expected
    missing = sorted(required - names)
    unexpected = sorted(names - expected - optional)
    if missing or unexpected:
        raise ValueError(
            f"not a ResNet-50{_other_network(names)}. Missing: {_shown(missing)}. "
            f"Unexpected: {_shown(unexpected)}."
        )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else ""
    return f"{', '.join(names[:NUM_SHOWN]) or 'none'}{more}"


def _other_network(names: set[str]) -> str:
    """Return which other ResNet the names of layers belong to, as " but a ResNet-101"."""
    for mark, network in OTHER_NETWORKS.items():
        if any(mark in name for name in names):
            return f" but a {network}"
    return ""


def _checked(tensors: Tensors) -> Tensors:
    """Check the shapes, because ResNeXt-50 and Wide ResNet-50 have the same names of tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    for scope in conv_scopes():
        shapes[f"{scope}/weights"] = kernel_shape(scope)
        for part in NORM_WEIGHTS:
            shapes[f"{scope}/BatchNorm/{part}"] = kernel_shape(scope)[3:]
    if f"{SCOPE}/logits/biases" in tensors:
        classes = tensors[f"{SCOPE}/logits/biases"].size
        shapes[f"{SCOPE}/logits/weights"] = (1, 1, 2048, classes)
        shapes[f"{SCOPE}/logits/biases"] = (classes,)
    wrong = [
        f"{name} {tensors[name].shape} instead of {shape}"
        for name, shape in shapes.items()
        if tensors[name].shape != shape
    ]
    if wrong:
        raise ValueError(f"not a ResNet-50. Other shapes: {'; '.join(wrong)}.")
    return {name: np.ascontiguousarray(tensors[name], np.float32) for name in shapes}


def write_checkpoint(prefix: Path, tensors: Tensors) -> dict[str, str]:
    """Write a checkpoint of TensorFlow's format V2 with plain tensor names.

    If writing the tensors fails, an earlier checkpoint stays unchanged.

    Args:
        prefix: path prefix of the files.
        tensors: tensor name -> array.

    Returns:
        File name -> sha256 of the two files.
    """
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
        # Delete the old index and side file first: if the process is killed between the two moves,
        # they would describe data of another conversion.
        Path(f"{prefix}.index").unlink(missing_ok=True)
        side_file_of(prefix).unlink(missing_ok=True)
        for ending in endings:
            os.replace(f"{temporary}{ending}", f"{prefix}{ending}")
    return {f"{prefix.name}{ending}": sha256_of(Path(f"{prefix}{ending}")) for ending in endings}


def main(argv: list[str] | None = None) -> int:
    """Convert a file with the given flags; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pretrained.convert",
        description="Convert ResNet-50 weights of Keras (.h5, .keras) or torchvision (.pth, .npz, "
        ".safetensors) to a TF-Slim checkpoint.",
    )
    parser.add_argument("source", type=home_path, help="the weights file")
    out_help = "path prefix of the checkpoint to write"
    parser.add_argument("--out", required=True, type=home_path, metavar="OUT.ckpt", help=out_help)
    kind_help = "origin of the weights (default: from the content of the file)"
    parser.add_argument("--from", dest="kind", choices=KINDS, help=kind_help)
    print_any_name()
    args = parser.parse_args(argv)
    # TensorFlow prints a page about CUDA when it is imported, unless this is set before.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        info = convert(args.source, args.out, args.kind, print)
    except (OSError, ValueError) as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 1
    print(
        f"{args.out}: layout {info.layout}, input RGB 0..255 minus {info.subtract}. "
        f"Load it with --pretrained_model={args.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
