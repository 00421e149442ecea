"""Compare the descriptions of EfficientNet-Lite with published sizes."""

from __future__ import annotations

import math

import pytest

from pretrained.lite_names import torch_shape
from pretrained.lite_networks import END_POINTS, NETWORKS, layers_of


@pytest.mark.parametrize(
    ("network", "published"),
    # Counted by PyTorch in the package efficientnet_lite_pytorch 0.1.0, with 1,000 classes.
    [
        ("efficientnet_lite0", 4_652_008),
        ("efficientnet_lite1", 5_416_680),
        ("efficientnet_lite2", 6_092_072),
    ],
)
def test_number_of_weights_is_the_published_one(network: str, published: int) -> None:
    convolutions = [
        convolution
        for units in layers_of(network).values()
        for unit in units
        for convolution in unit
    ]
    kernels = sum(math.prod(torch_shape(convolution)) for convolution in convolutions)
    norms = sum(2 * convolution.outputs for convolution in convolutions)
    classifier = 1280 * 1000 + 1000
    assert kernels + norms + classifier == published


def test_each_end_point_but_the_head_is_the_last_of_its_resolution() -> None:
    for network in NETWORKS:
        strides = {}
        stride = 1
        for layer, units in layers_of(network).items():
            stride *= math.prod(convolution.stride for unit in units for convolution in unit)
            strides[stride] = layer if layer != "head" else strides[stride]
        assert (*strides.values(), "head") == END_POINTS
        assert list(strides) == [2, 4, 8, 16, 32]
