"""Compare small MobileNets and EfficientNets with PyTorch's outputs."""

from __future__ import annotations

import numpy as np
import pytest

from delf_ext.models.trunks.mobile import mobile
from delf_ext.models.trunks.network import cut
from delf_ext.recipes import schema
from pretrained.mobile_networks import MOBILENETS, MobileNet, Unit, layers_of
from tests.delf_ext.models.trunks.torch_golden import last_map, tensors_by_our_names

# torchvision: MobileNetV2(inverted_residual_setting=[[1, 8, 1, 1], [6, 16, 2, 2]]); MobileNetV3 of
# three units (8,3,8,8,RE,1), (8,5,24,16,SE,HS,2), (16,3,32,16,SE,HS,1); EfficientNet of
# MBConvConfig(1,3,1,8,8,1) and (6,5,2,8,16,2).
SMALL = {
    "v2": MobileNet(
        32,
        ((Unit(3, 1, 32, 8),), (Unit(3, 2, 48, 16), Unit(3, 1, 96, 16))),
        *(1280, "relu6", "", "", "v2"),
    ),
    "v3": MobileNet(
        8,
        (
            (Unit(3, 1, 8, 8, 0, "relu"),),
            (Unit(5, 2, 24, 16, 8, "hard_swish"),),
            (Unit(3, 1, 32, 16, 8, "hard_swish"),),
        ),
        *(96, "hard_swish", "relu", "hard_sigmoid", "v3", 1e-3),
    ),
    "efficientnet": MobileNet(
        8,
        (
            (Unit(3, 1, 8, 8, 2, "swish"),),
            (Unit(5, 2, 48, 16, 2, "swish"), Unit(5, 1, 96, 16, 4, "swish")),
        ),
        *(64, "swish", "swish", "sigmoid", "efficientnet"),
    ),
}
GOLDEN = {
    "v2": ([0.0, 0.0, 0.57638, 2.29162], 0.600099, 1280),
    "v3": ([0.54336, 1.63216, -0.17268, -0.33818], 0.269962, 96),
    "efficientnet": ([1.11445, -0.23501, -0.20302, 0.28017], 0.413492, 64),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_network_computes_pytorchs_function(name: str) -> None:
    part = cut(mobile(SMALL[name], "torchvision", ("head",)), name, "head", schema.Trunk())
    tensors = tensors_by_our_names(name, layers_of(SMALL[name], "torchvision"))
    features = last_map(part, tensors, 37)
    golden, mean, channels = GOLDEN[name]
    assert features.shape == (10, 10, channels)
    np.testing.assert_allclose(features[1, 1, :4], golden, atol=2e-5)
    assert abs(features.mean() - mean) < 1e-5


def test_layout_of_tensorflow_pads_the_other_side() -> None:
    tensors = tensors_by_our_names("v2", layers_of(SMALL["v2"], "torchvision"))
    maps = {
        layout: last_map(
            cut(mobile(SMALL["v2"], layout, ("head",)), "v2", "head", schema.Trunk()), tensors, 32
        )
        for layout in ("timm", "timm_tf")
    }
    assert maps["timm"].shape == maps["timm_tf"].shape
    assert np.abs(maps["timm"] - maps["timm_tf"]).max() > 0.1


def test_numbers_of_parameters_are_torchvisions() -> None:
    # Without classifiers. torchvision 0.28: mobilenet_v2, mobilenet_v3_large (its classifier has
    # two layers), efficientnet_b0, efficientnet_b1.
    counts = (2_223_872, 2_971_952, 4_007_548, 6_513_184)
    for (name, config), count in zip(MOBILENETS.items(), counts, strict=True):
        trained = sum(
            np.prod(layer.shape) * (2 if layer.kind == "norm" else 1)
            + (layer.shape[0] if layer.has_bias else 0)
            for layer in layers_of(config, "torchvision")
        )
        assert trained == count, name
