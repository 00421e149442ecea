"""Describe MobileNetV2, MobileNetV3 and EfficientNet as torchvision and timm build them.

Sources: arXiv:1801.04381, table 2; arXiv:1905.02244, table 1; arXiv:1905.11946, table 1;
torchvision, models/{mobilenetv2,mobilenetv3,efficientnet}.py; timm,
models/_efficientnet_builder.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pretrained.torch_layers import TorchLayer


class Unit(NamedTuple):
    """Inverted residual unit.

    Attributes:
        kernel: side of the depthwise kernel.
        stride: of the depthwise convolution.
        inner: channels inside.
        outputs: channels behind it.
        squeezed: channels of squeeze-excitation; 0: it has none.
        activation: name of the activation.
    """

    kernel: int
    stride: int
    inner: int
    outputs: int
    squeezed: int = 0
    activation: str = "relu6"


class MobileNet(NamedTuple):
    """Network of inverted residual units.

    Attributes:
        stem: channels of the first convolution.
        blocks: units of each block, "block1" first.
        head: channels of the last convolution.
        activation: of stem and head.
        squeeze_activation: inside of squeeze-excitation.
        gate: at the end of squeeze-excitation.
        style: how torchvision names the units: "v2", "v3" or "efficientnet".
        epsilon: of the batch norms in torchvision.
        scaling: of timm's networks that came from TensorFlow.
    """

    stem: int
    blocks: tuple[tuple[Unit, ...], ...]
    head: int
    activation: str
    squeeze_activation: str
    gate: str
    style: str
    epsilon: float = 1e-5
    scaling: str = "torch"


class Layout(NamedTuple):
    """How a source pads, and its batch norms.

    Attributes:
        pads_same: `SAME` padding; otherwise each side is padded by half of the kernel.
        epsilon: of the batch norms; None: the one of the network.
    """

    pads_same: bool
    epsilon: float | None


LAYOUTS = {
    "torchvision": Layout(False, None),
    "timm": Layout(False, 1e-5),
    "timm_tf": Layout(True, 1e-3),
}
"""Layout -> details; "timm_tf" is of timm's tf_ networks, whose tensors have the same names."""


def _v2() -> MobileNet:
    rows = (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    )
    channels = 32
    blocks = []
    for expansion, outputs, count, stride in rows:
        units = []
        for number in range(count):
            step = stride if number == 0 else 1
            units.append(Unit(3, step, channels * expansion, outputs))
            channels = outputs
        blocks.append(tuple(units))
    return MobileNet(32, tuple(blocks), 1280, "relu6", "", "", "v2")


def _v3_large() -> MobileNet:
    blocks = (
        (Unit(3, 1, 16, 16, 0, "relu"),),
        (Unit(3, 2, 64, 24, 0, "relu"), Unit(3, 1, 72, 24, 0, "relu")),
        (
            Unit(5, 2, 72, 40, 24, "relu"),
            Unit(5, 1, 120, 40, 32, "relu"),
            Unit(5, 1, 120, 40, 32, "relu"),
        ),
        tuple(
            Unit(3, 2 if inner == 240 else 1, inner, 80, 0, "hard_swish")
            for inner in (240, 200, 184, 184)
        ),
        (
            Unit(3, 1, 480, 112, 120, "hard_swish"),
            Unit(3, 1, 672, 112, 168, "hard_swish"),
        ),
        (
            Unit(5, 2, 672, 160, 168, "hard_swish"),
            Unit(5, 1, 960, 160, 240, "hard_swish"),
            Unit(5, 1, 960, 160, 240, "hard_swish"),
        ),
    )
    return MobileNet(
        *(16, blocks, 960, "hard_swish", "relu", "hard_sigmoid", "v3"), epsilon=1e-3, scaling="tf"
    )


def _efficientnet(depth: float) -> MobileNet:
    rows = (
        *((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3)),
        *((5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)),
    )
    channels = 32
    blocks = []
    for kernel, stride, expansion, outputs, count in rows:
        units = []
        for number in range(math.ceil(count * depth)):
            step = stride if number == 0 else 1
            inner = channels * expansion
            units.append(Unit(kernel, step, inner, outputs, channels // 4, "swish"))
            channels = outputs
        blocks.append(tuple(units))
    return MobileNet(32, tuple(blocks), 1280, "swish", "swish", "sigmoid", "efficientnet")


MOBILENETS: Mapping[str, MobileNet] = {
    "mobilenetv2": _v2(),
    "mobilenetv3large": _v3_large(),
    "efficientnetb0": _efficientnet(1.0),
    "efficientnetb1": _efficientnet(1.1),
}
ANCHORS = {"torchvision": "features.0.0.weight", "timm": "conv_stem.weight"}
"""Source -> a tensor by which it is known."""
BODIES = {"torchvision": ("features.",), "timm": ("blocks.",)}
"""Source -> what the names of all its units begin with."""


def layers_of(network: MobileNet, source: str) -> Iterator[TorchLayer]:
    """Yield the layers with weights, from the image on.

    Args:
        network: its sizes.
        source: "torchvision" or "timm".

    Yields:
        The layers; our names are "stem/conv", "block1/unit_1/depthwise/norm", ...
    """
    is_timm = source == "timm"
    stem = ("conv_stem", "bn1") if is_timm else ("features.0.0", "features.0.1")
    yield from _pair("stem", stem, "conv", (network.stem, 3, 3, 3))
    channels = network.stem
    index = 1
    for block, units in enumerate(network.blocks):
        for row, unit in enumerate(units):
            has_expand = unit.inner != channels
            if is_timm:
                modules = _timm_modules(f"blocks.{block}.{row}", has_expand)
            else:
                place = f"{index}.block" if network.style == "v3" else f"{index}.conv"
                if network.style == "efficientnet":
                    place = f"{block + 1}.{row}.block"
                is_v2 = network.style == "v2"
                has_gate = bool(unit.squeezed)
                modules = _torchvision_modules(f"features.{place}", has_expand, has_gate, is_v2)
            yield from _unit(f"block{block + 1}/unit_{row + 1}", unit, channels, modules)
            channels = unit.outputs
            index += 1
    last = len(network.blocks) + 1 if network.style == "efficientnet" else index
    head = (f"features.{last}.0", f"features.{last}.1")
    if is_timm:
        place = f"blocks.{len(network.blocks)}.0"
        head = (f"{place}.conv", f"{place}.bn1") if network.style == "v3" else ("conv_head", "bn2")
    yield from _pair("head", head, "conv", (network.head, channels, 1, 1))


Modules = dict[str, tuple[str, str]]
"""Part of a unit -> names of its two layers in a file."""


def _timm_modules(place: str, has_expand: bool) -> Modules:
    first = {"expand": ("conv_pw", "bn1")} if has_expand else {}
    names = {
        **first,
        "depthwise": ("conv_dw", "bn2" if has_expand else "bn1"),
        "gate": ("se.conv_reduce", "se.conv_expand"),
        "project": ("conv_pwl", "bn3") if has_expand else ("conv_pw", "bn2"),
    }
    return {part: (f"{place}.{one}", f"{place}.{two}") for part, (one, two) in names.items()}


def _torchvision_modules(place: str, has_expand: bool, has_gate: bool, is_v2: bool) -> Modules:
    modules = {}
    number = 0
    if has_expand:
        modules["expand"] = (f"{place}.{number}.0", f"{place}.{number}.1")
        number += 1
    modules["depthwise"] = (f"{place}.{number}.0", f"{place}.{number}.1")
    number += 1
    if has_gate:
        modules["gate"] = (f"{place}.{number}.fc1", f"{place}.{number}.fc2")
        number += 1
    # MobileNetV2's last convolution and batch norm have no module around them.
    modules["project"] = (f"{place}.{number}.0", f"{place}.{number}.1")
    if is_v2:
        modules["project"] = (f"{place}.{number}", f"{place}.{number + 1}")
    return modules


def _unit(name: str, unit: Unit, channels: int, modules: Modules) -> Iterator[TorchLayer]:
    if "expand" in modules:
        shape = (unit.inner, channels, 1, 1)
        yield from _pair(f"{name}/expand", modules["expand"], "conv", shape)
    shape = (unit.inner, 1, unit.kernel, unit.kernel)
    yield from _pair(f"{name}/depthwise", modules["depthwise"], "depthwise", shape)
    if unit.squeezed:
        squeeze, excite = modules["gate"]
        shape = (unit.squeezed, unit.inner, 1, 1)
        yield TorchLayer(f"{name}/squeeze", squeeze, "conv", shape, has_bias=True)
        shape = (unit.inner, unit.squeezed, 1, 1)
        yield TorchLayer(f"{name}/excite", excite, "conv", shape, has_bias=True)
    shape = (unit.outputs, unit.inner, 1, 1)
    yield from _pair(f"{name}/project", modules["project"], "conv", shape)


def _pair(name: str, modules: tuple[str, str], kind: str, shape: tuple) -> Iterator[TorchLayer]:
    conv, norm = modules
    yield TorchLayer(f"{name}/conv", conv, "depthwise" if kind == "depthwise" else "conv", shape)
    yield TorchLayer(f"{name}/norm", norm, "norm", shape[:1])
