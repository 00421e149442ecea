"""Map the tensors of an EfficientNet-Lite in a PyTorch file to the names of our trunk.

Two sources name them: the package efficientnet_lite_pytorch ("_blocks.0._bn1.weight") and timm, for
its tf_efficientnet_lite0 to 2 ("blocks.0.0.bn1.weight").
"""

from __future__ import annotations

from typing import NamedTuple

from pretrained.lite_networks import Convolution, layers_of
from pretrained.torch_layers import NORM, Stored


class Scheme(NamedTuple):
    """How a source names convolutions and their batch norms.

    Attributes:
        ends: "stem" or "head" -> (convolution, batch norm).
        unit: "expand", "depthwise" or "project" -> the same, behind the unit's number.
        first_unit: the same for a unit without "expand".
        blocks: what is in front of the number of a unit.
        has_block_numbers: units are numbered in each block, behind the number of the block.
    """

    ends: dict[str, tuple[str, str]]
    unit: dict[str, tuple[str, str]]
    first_unit: dict[str, tuple[str, str]]
    blocks: str
    has_block_numbers: bool


PACKAGE_UNIT = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
SCHEMES = {
    "_conv_stem.weight": Scheme(
        ends={"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")},
        unit=PACKAGE_UNIT,
        first_unit=PACKAGE_UNIT,
        blocks="_blocks.",
        has_block_numbers=False,
    ),
    "conv_stem.weight": Scheme(
        ends={"stem": ("conv_stem", "bn1"), "head": ("conv_head", "bn2")},
        unit={
            "expand": ("conv_pw", "bn1"),
            "depthwise": ("conv_dw", "bn2"),
            "project": ("conv_pwl", "bn3"),
        },
        first_unit={"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")},
        blocks="blocks.",
        has_block_numbers=True,
    ),
}
"""Tensor by which a source is known -> its scheme."""
KNOWN = "Pass lite0, lite1 or lite2, or a file of timm's tf_efficientnet_lite0 to 2"


def tensors_of_lite(network: str, scheme: Scheme) -> dict[str, Stored]:
    """Return the tensors of a network by the names of our variables.

    Args:
        network: a key of NETWORKS.
        scheme: how they are named.

    Returns:
        Variable -> tensor in a file, without the classifier.
    """
    tensors = {}
    for scope, place in _places(network, scheme).items():
        kernel = "depthwise_kernel" if place.convolution.is_depthwise else "kernel"
        shape = torch_shape(place.convolution)
        tensors[f"{network}/{scope}/{kernel}"] = Stored(f"{place.name}.weight", shape)
        for ours, theirs in NORM.items():
            tensors[f"{network}/{scope}/{ours}"] = Stored(f"{place.norm}.{theirs}", shape[:1])
    return tensors


def torch_tensors(network: str, scheme: Scheme) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a network in PyTorch.

    Args:
        network: a key of NETWORKS.
        scheme: how they are named.

    Returns:
        Name -> shape, without the classifier and the counters of batches.
    """
    return {stored.name: stored.shape for stored in tensors_of_lite(network, scheme).values()}


class _Place(NamedTuple):
    """Convolution, with its name and that of its batch norm in a file."""

    convolution: Convolution
    name: str
    norm: str


def _places(network: str, scheme: Scheme) -> dict[str, _Place]:
    """Return the place of each convolution, by its scope."""
    places = {}
    number = 0
    for layer, units in layers_of(network).items():
        if layer in scheme.ends:
            places[layer] = _Place(units[0][0], *scheme.ends[layer])
            continue
        for row, unit in enumerate(units):
            block = int(layer.removeprefix("block")) - 1
            of_unit = f"{block}.{row}" if scheme.has_block_numbers else f"{number}"
            roles = scheme.unit if len(unit) == 3 else scheme.first_unit
            for convolution in unit:
                role = convolution.scope.rpartition("/")[2]
                name, norm = (f"{scheme.blocks}{of_unit}.{part}" for part in roles[role])
                places[convolution.scope] = _Place(convolution, name, norm)
            number += 1
    return places


def torch_shape(convolution: Convolution) -> tuple[int, int, int, int]:
    """Return the shape of a kernel in PyTorch: [out, in, h, w], with 1 input if depthwise."""
    inputs = 1 if convolution.is_depthwise else convolution.inputs
    return convolution.outputs, inputs, convolution.kernel, convolution.kernel
