"""Find an EfficientNet-Lite in state dicts, and name what is wrong with others."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pretrained.lite_names import SCHEMES, torch_tensors
from pretrained.lite_networks import NETWORKS
from pretrained.torch_files import Tensors
from pretrained.torch_networks import find_network, in_our_layout

PACKAGE, TIMM = SCHEMES


def state_dict(network: str, anchor: str = TIMM, prefix: str = "") -> Tensors:
    """Return a state dict of zeros with counters and a classifier."""
    shapes = torch_tensors(network, SCHEMES[anchor])
    state = {f"{prefix}{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}
    state[f"{prefix}bn1.num_batches_tracked"] = np.zeros((), np.int64)
    state["classifier.weight"] = np.zeros((10, 1280), np.float32)
    return state


@pytest.mark.parametrize(
    ("anchor", "digests"),
    # sha256 of the sorted lines "NAME SHAPE" without the classifier, of the networks of PyTorch:
    # efficientnet_lite_pytorch 0.1.0, and tf_efficientnet_lite0 to 2 of timm 0.9.16.
    [
        (PACKAGE, ("d8ce2e902bc29e76", "8c20c765cf26c65d", "494b9fc6a8c1c7a5")),
        (TIMM, ("933ea5d8b61db98b", "657e3add3664063c", "cfc5f48f438625fd")),
    ],
)
def test_names_and_shapes_are_those_of_pytorchs_networks(
    anchor: str, digests: tuple[str, ...]
) -> None:
    for network, digest in zip(NETWORKS, digests, strict=True):
        shapes = torch_tensors(network, SCHEMES[anchor])
        lines = sorted(f"{name} {shape}" for name, shape in shapes.items())
        assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("prefix", ["", "module.", "module.model."])
@pytest.mark.parametrize("anchor", SCHEMES)
@pytest.mark.parametrize("network", NETWORKS)
def test_network_is_found_behind_any_prefix(network: str, anchor: str, prefix: str) -> None:
    stored = find_network(state_dict(network, anchor, prefix))
    assert stored is not None and stored.network.name == network
    assert stored.unused == ("classifier.weight",)
    assert stored.names[f"{network}/stem/kernel"] == f"{prefix}{anchor}"


def test_kernels_get_the_axes_of_keras() -> None:
    state = state_dict("efficientnet_lite0")
    kernel = np.arange(16 * 32, dtype=np.float32).reshape(16, 32, 1, 1)
    state["blocks.0.0.conv_pw.weight"] = kernel
    depthwise = np.arange(32 * 9, dtype=np.float32).reshape(32, 1, 3, 3)
    state["blocks.0.0.conv_dw.weight"] = depthwise
    stored = find_network(state)
    assert stored is not None
    tensors = in_our_layout(stored, state)
    unit = "efficientnet_lite0/block1/unit_1"
    assert tensors[f"{unit}/project/kernel"].shape == (1, 1, 32, 16)
    assert tensors[f"{unit}/project/kernel"][0, 0, 5, 7] == kernel[7, 5, 0, 0]
    assert tensors[f"{unit}/depthwise/depthwise_kernel"].shape == (3, 3, 32, 1)
    assert tensors[f"{unit}/depthwise/depthwise_kernel"][0, 2, 9, 0] == depthwise[9, 0, 0, 2]


def test_other_networks_are_not_found() -> None:
    assert find_network({"layer5.0.conv1.weight": np.zeros(1)}) is None
    assert find_network({"deconv_stem.weight": np.zeros(1)}) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"blocks.0.0.se.conv_reduce.weight": np.zeros(1)},
            r"^is not a known network\. Compared with efficientnet_lite0, unexpected: blocks\.0\.0",
        ),
        (
            {"blocks.1.0.bn1.weight": np.zeros(7)},
            r"^is not a known network\. Compared with efficientnet_lite0, of another shape: "
            r"blocks\.1\.0\.bn1\.weight \(7,\) instead of \(96,\)$",
        ),
        (
            {"blocks.1.0.bn1.weight": None, "blocks.1.0.bn1.bias": None},
            r"Compared with efficientnet_lite0, missing: blocks\.1\.0\.bn1\.bias and 1 more$",
        ),
        (
            {"blocks.7.0.conv.weight": np.zeros(1)},
            r"Compared with efficientnet_lite0, unexpected: blocks\.7\.0\.conv\.weight$",
        ),
        (
            {"teacher.conv_stem.weight": np.zeros(1)},
            r"^holds several networks,  and teacher\.",
        ),
    ],
)
def test_near_misses_are_refused(change: dict[str, np.ndarray | None], reason: str) -> None:
    state = state_dict("efficientnet_lite0")
    changed = {name: value for name, value in {**state, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=reason):
        find_network(changed)
