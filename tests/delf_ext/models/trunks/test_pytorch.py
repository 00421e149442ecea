"""Compare whole networks of torchvision and timm with our trunks, where PyTorch is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf_ext.models.trunks.trunk import build_trunk
from delf_ext.recipes import schema
from pretrained.torch_weights import read_network
from tests.delf_ext.models.trunks.torch_golden import pattern

DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
# Beside these, the whole list of pretrained/torch_networks.py was compared once.
NETWORKS = [
    ("torchvision", "mobilenet_v2"),
    ("torchvision", "mobilenet_v3_large"),
    ("torchvision", "efficientnet_b0"),
    ("torchvision", "densenet121"),
    ("torchvision", "resnet101"),
    ("timm", "efficientnet_b0"),
    ("timm", "tf_efficientnet_b0"),
    ("timm", "mobilenetv3_large_100"),
]


def new_network(package: str, name: str) -> Any:
    """Return a network of PyTorch with random weights and statistics."""
    # In an environment that has them; they are no dependency of the project.
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    module = pytest.importorskip(package, reason=f"needs {package}: pip install {package}")
    network = module.create_model(name) if package == "timm" else getattr(module.models, name)()
    torch.manual_seed(7)
    for name, values in network.state_dict().items():
        if name.endswith("running_var"):
            # A variance near 0 makes rounding errors large: from .01 on, float32 differs from
            # float64 by a tenth at the head of MobileNetV2.
            values.uniform_(0.5, 2.0)
        elif name.endswith("running_mean") or (values.ndim == 1 and name.endswith("bias")):
            values.normal_(0, 0.2)
        elif values.ndim == 4:
            values.normal_(0, (1.6 / values[0].numel()) ** 0.5)
        elif values.ndim == 1 and name.endswith("weight"):
            values.uniform_(0.6, 1.4)
    return network.eval()


def last_map_of(network: Any, package: str, name: str, side: int) -> np.ndarray:
    """Return its last feature map [1, h, w, C] of the pattern."""
    import torch

    images = (pattern(side).astype(np.float32) / 255 - MEAN) / DEVIATION
    features = torch.from_numpy(images.transpose(0, 3, 1, 2))
    with torch.no_grad():
        if package == "timm":
            features = network.forward_features(features)
        elif name.startswith("resnet"):
            features = torch.nn.Sequential(*list(network.children())[:-2])(features)
        else:
            features = network.features(features)
        if name.startswith("densenet"):
            features = torch.relu(features)
    return features.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize(("package", "name"), NETWORKS)
def test_last_feature_map_is_pytorchs(package: str, name: str, tmp_path: Path) -> None:
    network = new_network(package, name)
    path = tmp_path / f"{name}.pth"
    import torch

    torch.save(network.state_dict(), path)
    weights = read_network(str(path))
    assert weights is not None
    trunk = build_trunk(
        schema.Trunk(weights.network, weights.source, _last(weights.source), layout=weights.layout)
    )
    trunk(pattern(64))
    trunk.load(str(path))
    for side in (96, 161):
        expected = last_map_of(network, package, name, side)
        ours = trunk(pattern(side))[trunk.endpoint]
        tolerance = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance, err_msg=str(side))


def _last(source: str) -> str:
    return "block4" if source == "slim" else ""
