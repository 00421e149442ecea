"""Recognise networks of PyTorch by the names and shapes of their tensors, and rename these.

`KNOWN` lists every network and source that can be loaded without being named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from pretrained import densenet_networks, lite_names, lite_networks, mobile_networks, resnet_names
from pretrained.torch_files import Tensors
from pretrained.torch_layers import Stored, TorchLayer, tensors_of
from pretrained.weight_files import find_prefix

COUNTER = "num_batches_tracked"
# Of RGB in 0..255. Source: torchvision's transforms.
INPUT_DEVIATION = (58.395, 57.12, 57.375)


class TorchNetwork(NamedTuple):
    """Network as one source saves it.

    Attributes:
        source: of our trunk, such as "keras".
        name: of our trunk, such as "densenet161".
        layout: of our trunk, such as "torchvision"; "auto" if its source has no layouts.
        anchor: a tensor that the network has.
        body: what the names of its units begin with: more of these are another network.
        tensors: returns our variable -> tensor in the file.
        input_kernel: our variable that is divided by the deviation of the input, which the trunk
            does not divide by; "" = none.
    """

    source: str
    name: str
    layout: str
    anchor: str
    body: tuple[str, ...]
    tensors: Callable[[], dict[str, Stored]]
    input_kernel: str = ""


class Found(NamedTuple):
    """Network in a state dict.

    Attributes:
        network: which one.
        names: our variable -> name in the file.
        unused: other names in the file, such as those of the classifier.
    """

    network: TorchNetwork
    names: dict[str, str]
    unused: tuple[str, ...]


def _tensors(network: str, layers: Callable[[], Iterator[TorchLayer]]) -> dict[str, Stored]:
    return {f"{network}/{ours}": stored for layer in layers() for ours, stored in tensors_of(layer)}


def _of_lite() -> list[TorchNetwork]:
    return [
        TorchNetwork(
            "lite",
            name,
            "auto",
            anchor,
            (scheme.blocks,),
            partial(lite_names.tensors_of_lite, name, scheme),
        )
        for anchor, scheme in lite_names.SCHEMES.items()
        for name in lite_networks.NETWORKS
    ]


def _of_densenet() -> list[TorchNetwork]:
    return [
        TorchNetwork(
            "keras",
            name,
            "torchvision",
            densenet_networks.ANCHOR,
            densenet_networks.BODY,
            partial(_tensors, name, partial(densenet_networks.layers_of, config)),
        )
        for name, config in densenet_networks.DENSENETS.items()
    ]


def _of_mobile() -> list[TorchNetwork]:
    return [
        TorchNetwork(
            "keras",
            name,
            source,
            anchor,
            mobile_networks.BODIES[source],
            partial(_tensors, name, partial(mobile_networks.layers_of, config, source)),
        )
        for source, anchor in mobile_networks.ANCHORS.items()
        for name, config in mobile_networks.MOBILENETS.items()
    ]


def _of_resnet() -> list[TorchNetwork]:
    return [
        TorchNetwork(
            "slim",
            name,
            "v1.5",
            resnet_names.ANCHOR,
            resnet_names.BODY,
            partial(resnet_names.torch_tensors, name),
            input_kernel=f"{name}/conv1/weights",
        )
        for name in resnet_names.UNITS
    ]


KNOWN = (*_of_lite(), *_of_densenet(), *_of_mobile(), *_of_resnet())


def find_network(state: Mapping[str, np.ndarray]) -> Found | None:
    """Find a known network in a state dict.

    Args:
        state: tensor name -> array, with present names; a trainer may have put something in front.

    Returns:
        The network; None if it has no tensor that a known network has.

    Raises:
        ValueError: it is nearly a known network, or there are several.
    """
    shapes = {name: array.shape for name, array in state.items() if not name.endswith(COUNTER)}
    prefixes = {one.anchor: find_prefix(shapes, one.anchor) for one in KNOWN}
    faults: dict[str, dict[str, list[str]]] = {}
    for network in KNOWN:
        prefix = prefixes[network.anchor]
        if prefix is None:
            continue
        expected = {ours: f"{prefix}{one.name}" for ours, one in network.tensors().items()}
        fault = _faults(network, prefix, shapes)
        if not any(fault.values()):
            unused = set(shapes) - set(expected.values())
            return Found(network, expected, tuple(sorted(unused)))
        faults[network.name] = fault
    if not faults:
        return None
    nearest = min(faults, key=lambda name: sum(map(len, faults[name].values())))
    listed = [f"{kind}: {_shown(names)}" for kind, names in faults[nearest].items() if names]
    raise ValueError(f"is not a known network. Compared with {nearest}, {'; '.join(listed)}")


def _faults(
    network: TorchNetwork, prefix: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, list[str]]:
    """Return what of a network is missing, surplus or wrong in a file."""
    expected = {f"{prefix}{one.name}": one.shape for one in network.tensors().values()}
    body = tuple(f"{prefix}{part}" for part in network.body)
    surplus = [name for name in shapes if name not in expected and name.startswith(body)]
    wrong = [
        f"{name} {shapes[name]} instead of {shape}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    return {
        "missing": sorted(set(expected) - set(shapes)),
        "unexpected": sorted(surplus),
        "of another shape": wrong,
    }


def _shown(names: Collection[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first


def in_our_layout(found: Found, state: Mapping[str, np.ndarray]) -> Tensors:
    """Return the tensors by our names, with kernels as Keras has them.

    Args:
        found: from `find_network`.
        state: the same state dict.

    Returns:
        Variable -> float32 array; kernels [h, w, in, out], depthwise ones [h, w, channels, 1].
    """
    tensors = {}
    for ours, name in found.names.items():
        tensor = np.asarray(state[name], np.float32)
        if tensor.ndim == 4:
            is_depthwise = ours.endswith("depthwise_kernel")
            tensor = np.transpose(tensor, (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
        if ours == found.network.input_kernel:
            tensor = tensor / np.reshape(np.asarray(INPUT_DEVIATION, np.float32), (3, 1))
        tensors[ours] = tensor
    return tensors
