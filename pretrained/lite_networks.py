"""Describe the networks EfficientNet-Lite 0, 1 and 2 as lists of convolutions.

Source: tensorflow/tpu, models/official/efficientnet/lite: EfficientNet (arXiv:1905.11946) without
squeeze-excitation, with ReLU6, and with stem and head of a fixed width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


class Convolution(NamedTuple):
    """Convolution with `SAME` padding and a batch norm behind it.

    Attributes:
        scope: its name, such as "stem" or "block1/unit_1/project".
        inputs: number of input channels.
        outputs: number of output channels.
        kernel: side of the kernel.
        stride: distance of two windows.
        is_depthwise: each output channel is computed from one input channel.
        has_relu: a ReLU6 follows.
    """

    scope: str
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    is_depthwise: bool = False
    has_relu: bool = True


Unit = tuple[Convolution, ...]
"""Convolutions in a row; a shortcut joins both ends in blocks, if they have equal shapes."""


class Block(NamedTuple):
    """Block of inverted residual units.

    Attributes:
        units: number of units at depth 1.
        kernel: side of the depthwise kernels.
        stride: of the first unit.
        expansion: channels inside of a unit, as a multiple of its input channels.
        channels: output channels at width 1.
    """

    units: int
    kernel: int
    stride: int
    expansion: int
    channels: int


BLOCKS = (
    Block(1, 3, 1, 1, 16),
    Block(2, 3, 2, 6, 24),
    Block(2, 5, 2, 6, 40),
    Block(3, 3, 2, 6, 80),
    Block(3, 5, 1, 6, 112),
    Block(4, 5, 2, 6, 192),
    Block(1, 3, 1, 6, 320),
)


class Scale(NamedTuple):
    """How much larger than EfficientNet-Lite0 a network is.

    Attributes:
        width: factor of the channels.
        depth: factor of the units; the first and the last block keep their number.
    """

    width: float
    depth: float


NETWORKS = {
    "efficientnet_lite0": Scale(1.0, 1.0),
    "efficientnet_lite1": Scale(1.0, 1.1),
    "efficientnet_lite2": Scale(1.1, 1.2),
}
END_POINTS = ("block1", "block2", "block3", "block5", "block7", "head")
"""Last feature map of each resolution (strides 2 to 32), and the head behind block7."""


def layers_of(network: str) -> dict[str, list[Unit]]:
    """Return the units of the stem, of each block, and of the head.

    Args:
        network: a key of NETWORKS.

    Returns:
        "stem", "block1", ... "head" -> its units, from the image on.
    """
    layers: dict[str, list[Unit]] = {
        "stem": [(Convolution("stem", 3, STEM_CHANNELS, kernel=3, stride=2),)]
    }
    channels = STEM_CHANNELS
    for number, block in enumerate(_scaled_blocks(NETWORKS[network]), start=1):
        name = f"block{number}"
        layers[name] = []
        for unit in range(1, block.units + 1):
            stride = block.stride if unit == 1 else 1
            convolutions = _unit(f"{name}/unit_{unit}", channels, block, stride)
            layers[name].append(tuple(convolutions))
            channels = block.channels
    layers["head"] = [(Convolution("head", channels, HEAD_CHANNELS),)]
    return layers


def _scaled_blocks(scale: Scale) -> Iterator[Block]:
    for number, block in enumerate(BLOCKS):
        is_inner = 0 < number < len(BLOCKS) - 1
        units = math.ceil(block.units * scale.depth) if is_inner else block.units
        yield block._replace(units=units, channels=round_channels(block.channels * scale.width))


def round_channels(channels: float) -> int:
    """Round to a multiple of 8, but not below 90 % of `channels`.

    Args:
        channels: number of channels, scaled.

    Returns:
        The rounded number.

    Examples:
        >>> round_channels(1.1 * 40), round_channels(1.1 * 112)
        (48, 120)
    """
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _unit(scope: str, channels: int, block: Block, stride: int) -> Iterator[Convolution]:
    inside = channels * block.expansion
    if block.expansion > 1:
        yield Convolution(f"{scope}/expand", channels, inside)
    yield Convolution(f"{scope}/depthwise", inside, inside, block.kernel, stride, is_depthwise=True)
    yield Convolution(f"{scope}/project", inside, block.channels, has_relu=False)
