"""Compare a small DenseNet with PyTorch's output."""

from __future__ import annotations

import numpy as np

from delf_ext.models.trunks.densenet import densenet
from delf_ext.models.trunks.network import cut
from delf_ext.recipes import schema
from pretrained.densenet_networks import DENSENETS, DenseNet, layers_of
from tests.delf_ext.models.trunks.torch_golden import last_map, tensors_by_our_names

SMALL = DenseNet(4, 8, (1, 2))


def test_small_network_computes_pytorchs_function() -> None:
    # torchvision: DenseNet(growth_rate=4, block_config=(1, 2), num_init_features=8), ReLU behind.
    part = cut(densenet(SMALL), "small", "block2", schema.Trunk())
    features = last_map(part, tensors_by_our_names("small", layers_of(SMALL)), 37)
    assert features.shape == (5, 5, 14)
    np.testing.assert_allclose(features[1, 1, :4], [0.0, 0.0, 0.47149, 0.11989], atol=1e-5)
    assert abs(features.mean() - 0.127341) < 1e-6


def test_groups_are_the_first_end_points_that_need_a_variable() -> None:
    part = cut(densenet(SMALL), "small", "block2", schema.Trunk())
    assert part.groups["small/stem/conv/kernel"] == "stem"
    assert part.groups["small/block1/unit_1/norm1/gamma"] == "block1"
    # A transition is computed behind block 1.
    assert part.groups["small/transition1/conv/kernel"] == "block2"
    assert set(part.groups.values()) == {"stem", "block1", "block2"}


def test_sizes_are_those_of_the_paper() -> None:
    # torchvision: parameters without the classifier (1000 classes): 26,472,000 and 6,953,856.
    for name, count in {"densenet161": 26_472_000, "densenet121": 6_953_856}.items():
        trained = [
            np.prod(layer.shape) * (2 if layer.kind == "norm" else 1)
            for layer in layers_of(DENSENETS[name])
        ]
        assert sum(trained) == count
