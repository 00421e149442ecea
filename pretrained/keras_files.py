"""Read the weights of a Keras ResNet-50 in the file formats that Keras has written since 2017.

The names of layers changed in 2018 (`res2a_branch2a` became `conv2_block1_1_conv`), and files of
Keras 3 number the weights, and sometimes the layers, instead of naming them. A network inside
another one, and a head behind it, are found too.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from pretrained.resnet_names import conv_scopes, keras_layers, keras_layers_2017, keras_order

Tensors = dict[str, np.ndarray]

# A weight of Keras 1 and 2 -> its name since then. `running_std` always held the variance.
# Source: BatchNormalization in keras/layers/normalization.py of Keras 1.0.
OLD_ROLES = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
# Number of a weight in files of Keras 3 -> its name.
CONV_ROLES = ("kernel", "bias")
NORM_ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
TOPS = {"predictions": "predictions", "fc1000": "predictions"}
# A layer of a ResNet, of any depth and version.
RESNET_LAYER = re.compile(r"conv[2-5]_block\d+_\w+|(res|bn)[2-5][a-z]\d*_branch\w+|post_bn")


@dataclass(frozen=True, eq=False)
class KerasWeights:
    """Weights of a ResNet-50 by the present names of its layers.

    Attributes:
        tensors: `layer/weight` -> array.
        epsilons: layer -> epsilon of a batch norm, as far as the file says it.
        left_out: names of weights that are not of the network, such as those of another head.
    """

    tensors: Tensors
    epsilons: dict[str, float]
    left_out: tuple[str, ...]


def read_keras(path: Path) -> KerasWeights:
    """Read a `.h5`, `.weights.h5` or `.keras` file.

    Args:
        path: the file.

    Returns:
        The weights.

    Raises:
        ValueError: the file cannot be read, or holds two networks.
    """
    import h5py

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content: IO[bytes] | Path = io.BytesIO(archive.read("model.weights.h5"))
                config = archive.read("config.json").decode()
        else:
            content = path
            config = ""
        with h5py.File(content, "r") as file:
            datasets = dict(_datasets(file.get("model_weights", file)))
            config = config or str(file.attrs.get("model_config", ""))
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"not readable as HDF5 ({error}); fetch or copy it again") from error
    return _sorted_out(datasets, _epsilons(config))


def _datasets(group: Any) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Return the path and values of each weight; those of optimizers and metrics are left out."""
    import h5py

    found: list[tuple[tuple[str, ...], np.ndarray]] = []

    def collect(name: str, item: object) -> None:
        parts = tuple(name.split("/"))
        if isinstance(item, h5py.Dataset) and not parts[0].startswith(("optimizer", "metrics")):
            found.append((parts, item[()]))

    group.visititems(collect)
    yield from found


def _sorted_out(
    datasets: dict[tuple[str, ...], np.ndarray], epsilons: dict[str, float]
) -> KerasWeights:
    names = _present_names()
    numbered = _numbered_layers(datasets)
    networks: dict[tuple[str, ...], Tensors] = {}
    left_out: dict[str, np.ndarray] = {}
    for parts, values in datasets.items():
        place = _place(parts, names, numbered)
        if place is None:
            left_out["/".join(parts)] = values
            continue
        network, layer, weight = place
        networks.setdefault(network, {})[f"{layer}/{weight}"] = values
    top = _top(networks)
    main = [network for network, tensors in networks.items() if _is_network(tensors)]
    if len(main) > 1:
        shown = " and ".join("/".join(network) or "(the outermost)" for network in main)
        raise ValueError(f"holds several networks, {shown}. Save the one that you need")
    tensors = dict(networks[main[0]]) if main else {}
    # A deeper or other ResNet: its layers make the message of what does not fit.
    unknown = {name: values for name, values in left_out.items() if _is_resnet_layer(name)}
    others = sorted(set(left_out) - set(unknown))
    known_epsilons = {names[name]: value for name, value in epsilons.items() if name in names}
    return KerasWeights(tensors | top | unknown, known_epsilons, tuple(others))


def _present_names() -> dict[str, str]:
    """Return each name of a layer, of 2017 or present -> its present name."""
    names = dict(TOPS)
    for scope in conv_scopes():
        for present, old in zip(keras_layers(scope), keras_layers_2017(scope), strict=True):
            names[present] = present
            names[old] = present
    return names


def _place(
    parts: tuple[str, ...], names: dict[str, str], numbered: dict[tuple[str, ...], str]
) -> tuple[tuple[str, ...], str, str] | None:
    """Return the network around a weight, its layer and its role; None if it has no such layer."""
    if len(parts) > 2 and parts[-2] == "vars":
        group = parts[:-2]
        layer = numbered.get(group) or names.get(group[-1], "")
        roles = NORM_ROLES if layer.endswith("_bn") else CONV_ROLES
        number = int(parts[-1]) if parts[-1].isdecimal() else len(roles)
        if not layer or number >= len(roles):
            return None
        return group[:-1], layer, roles[number]
    for depth in range(len(parts) - 1):
        # Keras numbers the second layer of a name: conv1_conv_1.
        for name in (parts[depth], re.sub(r"_\d+$", "", parts[depth])):
            if name in names:
                role = _role(parts[-1], name)
                return parts[:depth], names[name], role
    return None


def _role(weight: str, layer: str) -> str:
    """Return "kernel" for "kernel:0", "conv1_W:0" and "conv1_W_1:0"."""
    name = re.sub(r"(_\d+)?(:\d+)?$", "", weight).removeprefix(f"{layer}_")
    return OLD_ROLES.get(name, name)


def _numbered_layers(datasets: dict[tuple[str, ...], np.ndarray]) -> dict[tuple[str, ...], str]:
    """Return the layers that a file of Keras 3 names conv2d, conv2d_1, ...: group -> layer.

    The numbers follow the order of `model.layers`.
    """
    layers: dict[tuple[str, ...], str] = {}
    convs, norms = keras_order()
    for kind, in_order in (("conv2d", convs), ("batch_normalization", norms)):
        for group in {parts[:-2] for parts in datasets if parts[-2:-1] == ("vars",)}:
            match = re.fullmatch(rf"{kind}(?:_(\d+))?", group[-1]) if group else None
            number = int(match[1] or 0) if match else len(in_order)
            if number < len(in_order):
                layers[group] = in_order[number]
    return layers


def _is_network(tensors: Tensors) -> bool:
    return any(not name.startswith("predictions/") for name in tensors)


def _top(networks: dict[tuple[str, ...], Tensors]) -> Tensors:
    """Return the published classifier, which may be outside of the network."""
    return {
        name: values
        for tensors in networks.values()
        for name, values in tensors.items()
        if name.startswith("predictions/")
    }


def _is_resnet_layer(name: str) -> bool:
    return any(RESNET_LAYER.fullmatch(part) for part in name.split("/"))


def _epsilons(config: str) -> dict[str, float]:
    """Return the epsilon of each batch norm in the configuration of a whole model."""
    try:
        waiting = [json.loads(config)]
    except json.JSONDecodeError:
        return {}
    epsilons: dict[str, float] = {}
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            if "epsilon" in item and "name" in item:
                epsilons[str(item["name"])] = float(item["epsilon"])
            waiting += list(item.values())
    return epsilons
