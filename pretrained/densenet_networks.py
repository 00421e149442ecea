"""Describe DenseNet in PyTorch's layout: its layers, and their names in torchvision and timm.

Source: Huang et al. 2017, arXiv:1608.06993; torchvision, models/densenet.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pretrained.torch_layers import TorchLayer

# torchvision's files of 2017 have "norm.1" for "norm1".
OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)")
ANCHOR = "features.denseblock1.denselayer1.conv1.weight"
BODY = ("features.",)
BOTTLENECK = 4
"""The 1x1 convolution of a unit has this many times its new channels."""


class DenseNet(NamedTuple):
    """Sizes of a DenseNet.

    Attributes:
        growth: channels that a unit adds.
        stem: channels of the first convolution.
        units: number of units of each block.
    """

    growth: int
    stem: int
    units: tuple[int, ...]


DENSENETS: Mapping[str, DenseNet] = {
    "densenet121": DenseNet(32, 64, (6, 12, 24, 16)),
    "densenet161": DenseNet(48, 96, (6, 12, 36, 24)),
    "densenet169": DenseNet(32, 64, (6, 12, 32, 32)),
    "densenet201": DenseNet(32, 64, (6, 12, 48, 32)),
}


def present_name(name: str) -> str:
    """Return the present name of a tensor.

    Examples:
        >>> present_name("features.denseblock1.denselayer2.norm.1.weight")
        'features.denseblock1.denselayer2.norm1.weight'
    """
    return OLD_NAME.sub(r"\1\2", name)


def layers_of(network: DenseNet) -> Iterator[TorchLayer]:
    """Yield the layers with weights, from the image on.

    Args:
        network: its sizes.

    Yields:
        Convolutions and batch norms; our names are "stem/conv", "block1/unit_1/norm1", ...
    """
    channels = network.stem
    yield TorchLayer("stem/conv", "features.conv0", "conv", (channels, 3, 7, 7))
    yield TorchLayer("stem/norm", "features.norm0", "norm", (channels,))
    growth = network.growth
    inner = BOTTLENECK * growth
    for block, units in enumerate(network.units, start=1):
        for unit in range(1, units + 1):
            ours = f"block{block}/unit_{unit}"
            theirs = f"features.denseblock{block}.denselayer{unit}"
            yield TorchLayer(f"{ours}/norm1", f"{theirs}.norm1", "norm", (channels,))
            yield TorchLayer(f"{ours}/conv1", f"{theirs}.conv1", "conv", (inner, channels, 1, 1))
            yield TorchLayer(f"{ours}/norm2", f"{theirs}.norm2", "norm", (inner,))
            yield TorchLayer(f"{ours}/conv2", f"{theirs}.conv2", "conv", (growth, inner, 3, 3))
            channels += growth
        if block < len(network.units):
            ours = f"transition{block}"
            theirs = f"features.transition{block}"
            yield TorchLayer(f"{ours}/norm", f"{theirs}.norm", "norm", (channels,))
            halved = (channels // 2, channels, 1, 1)
            yield TorchLayer(f"{ours}/conv", f"{theirs}.conv", "conv", halved)
            channels //= 2
    last = f"features.norm{len(network.units) + 1}"
    yield TorchLayer("final/norm", last, "norm", (channels,))
