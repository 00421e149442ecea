"""Weights, images and expected outputs of small PyTorch networks.

Made once with PyTorch 2.13, torchvision 0.28: the weights are those of `filled`, the input is
(pattern / 255 - mean) / deviation of ImageNet.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from delf_ext.models.trunks.network import Cut, scaled
from pretrained.torch_files import Tensors
from pretrained.torch_layers import TorchLayer, tensors_of
from pretrained.torch_networks import Found, TorchNetwork, in_our_layout


def pattern(side: int) -> np.ndarray:
    """Return a fixed image, uint8 [1, side, side, 3]."""
    y, x, channel = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    return ((x * 3 + y * 5 + x * y // 7 * (channel + 1) + channel * 40) % 256).astype(np.uint8)[
        None
    ]


def filled(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the values of a tensor of PyTorch."""
    values = np.sin(np.arange(np.prod(shape)) * 0.7 + len(name))
    if name.endswith("running_var"):
        values = values * 0.4 + 0.9
    elif len(shape) == 1 and name.endswith("weight"):
        values = values * 0.3 + 1
    elif len(shape) == 4:
        values = values * (2 / np.prod(shape[1:])) ** 0.5
    else:
        values = values * 0.2
    return values.reshape(shape).astype(np.float32)


def tensors_by_our_names(network: str, layers: Iterable[TorchLayer]) -> Tensors:
    """Return the values of all variables of our network."""
    stored = {f"{network}/{ours}": one for layer in layers for ours, one in tensors_of(layer)}
    state = {one.name: filled(one.name, one.shape) for one in stored.values()}
    described = TorchNetwork("keras", network, "torchvision", "", (), dict)
    return in_our_layout(
        Found(described, {our: one.name for our, one in stored.items()}, ()), state
    )


def last_map(part: Cut, tensors: Tensors, side: int) -> np.ndarray:
    """Return the last feature map [h, w, C] of the pattern."""
    assert {one.name.split(":")[0] for one in part.model.variables} == set(tensors)
    for variable in part.model.variables:
        variable.assign(tensors[variable.name.split(":")[0]])
    maps = part.model(scaled(pattern(side), "torch"), training=False)
    last = maps[-1] if isinstance(maps, list) else maps
    return np.asarray(last)[0]
