"""Map the tensors of an EfficientNet-Lite in a PyTorch file to the names of our trunk.

Two sources name them: the package efficientnet_lite_pytorch ("_blocks.0._bn1.weight") and timm, for
its tf_efficientnet_lite0 to 2 ("blocks.0.0.bn1.weight").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from pretrained.lite_networks import NETWORKS, Convolution, layers_of
from pretrained.torch_files import Tensors
from pretrained.weight_files import find_prefix

NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Variable of our batch norms -> its name in a file."""


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
# Part of a name that only an EfficientNet with squeeze-excitation has, in both schemes.
SQUEEZE_EXCITATION = ("._se_reduce.", ".se.conv_reduce.")
COUNTER = "num_batches_tracked"
KNOWN = "Pass lite0, lite1 or lite2, or a file of timm's tf_efficientnet_lite0 to 2"


class Stored(NamedTuple):
    """Tensors of an EfficientNet-Lite in a file.

    Attributes:
        network: a key of NETWORKS.
        names: variable of our trunk -> name in the file.
        unused: other names in the file, such as those of the classifier.
    """

    network: str
    names: dict[str, str]
    unused: tuple[str, ...]


def find_lite(state: Mapping[str, np.ndarray]) -> Stored | None:
    """Find an EfficientNet-Lite in a state dict.

    Args:
        state: tensor name -> array; a trainer may have put something in front of the names.

    Returns:
        Its tensors; None if the network is of another kind.

    Raises:
        ValueError: it is nearly an EfficientNet-Lite, or there are several.
    """
    prefixes = {anchor: find_prefix(state, anchor) for anchor in SCHEMES}
    anchor = next((anchor for anchor, prefix in prefixes.items() if prefix is not None), "")
    if not anchor:
        return None
    scheme = SCHEMES[anchor]
    prefix = prefixes[anchor] or ""
    shapes = {name: array.shape for name, array in state.items() if not name.endswith(COUNTER)}
    if any(mark in name for name in shapes for mark in SQUEEZE_EXCITATION):
        raise ValueError(
            "holds a network with squeeze-excitation, such as EfficientNet-B0, not an "
            f"EfficientNet-Lite. {KNOWN}"
        )
    faults = {}
    for network in NETWORKS:
        names = _names(network, scheme, prefix)
        expected = {
            f"{prefix}{name}": shape for name, shape in torch_tensors(network, scheme).items()
        }
        unused = set(shapes) - set(expected)
        missing = sorted(set(expected) - set(shapes))
        surplus = sorted(name for name in unused if name.startswith(f"{prefix}{scheme.blocks}"))
        wrong = [
            f"{name} {shapes[name]} instead of {shape}"
            for name, shape in expected.items()
            if name in shapes and shapes[name] != shape
        ]
        if not missing + surplus + wrong:
            return Stored(network, names, tuple(sorted(unused)))
        faults[network] = (missing, surplus, wrong)
    nearest = min(faults, key=lambda network: sum(map(len, faults[network])))
    kinds = ("missing", "unexpected", "of another shape")
    listed = [f"{kind}: {_shown(names)}" for kind, names in zip(kinds, faults[nearest]) if names]
    raise ValueError(
        f"is not an EfficientNet-Lite0, 1 or 2. Compared with {nearest}, {'; '.join(listed)}. "
        f"{KNOWN}"
    )


def _shown(names: Collection[str]) -> str:
    first, *others = names
    return f"{first} and {len(others)} more" if others else first


def _names(network: str, scheme: Scheme, prefix: str) -> dict[str, str]:
    """Return the name in a file of each variable of our trunk."""
    names = {}
    for scope, place in _places(network, scheme).items():
        kernel = "depthwise_kernel" if place.convolution.is_depthwise else "kernel"
        names[f"{network}/{scope}/{kernel}"] = f"{prefix}{place.name}.weight"
        for ours, theirs in NORM.items():
            names[f"{network}/{scope}/{ours}"] = f"{prefix}{place.norm}.{theirs}"
    return names


def torch_tensors(network: str, scheme: Scheme) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a network in PyTorch.

    Args:
        network: a key of NETWORKS.
        scheme: how they are named.

    Returns:
        Name -> shape, without the classifier and the counters of batches.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for place in _places(network, scheme).values():
        shapes[f"{place.name}.weight"] = torch_shape(place.convolution)
        for part in NORM.values():
            shapes[f"{place.norm}.{part}"] = (place.convolution.outputs,)
    return shapes


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


def in_our_layout(stored: Stored, state: Mapping[str, np.ndarray]) -> Tensors:
    """Return the tensors by our names, with kernels as Keras has them.

    Args:
        stored: from `find_lite`.
        state: the same state dict.

    Returns:
        Variable -> array; kernels [h, w, in, out], depthwise ones [h, w, channels, 1].
    """
    tensors = {}
    for ours, name in stored.names.items():
        tensor = state[name]
        if tensor.ndim == 4:
            is_depthwise = ours.endswith("depthwise_kernel")
            tensor = np.transpose(tensor, (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
        tensors[ours] = tensor
    return tensors
