"""Compare EfficientNet-Lite with PyTorch's outputs; load, freeze and regularize it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.trunks.lite import LiteTrunk
from delf_ext.models.trunks.trunk import build_trunk
from delf_ext.recipes import schema
from pretrained.lite_names import SCHEMES, torch_tensors
from pretrained.lite_networks import NETWORKS, layers_of
from pretrained.lite_weights import PACKAGES, package_file

needs_weights = pytest.mark.skipif(
    any(find_spec(package) is None for package in PACKAGES.values()),
    reason="the extra [lite] is not installed",
)
# Made once with PyTorch 1.12.1, efficientnet_lite_pytorch 0.1.0 and the weights of the packages,
# from pattern(97): channels 0 to 2 at y = 1, x = 2, and the mean of the head.
GOLDEN: dict[str, dict[str, list[float]]] = {
    "lite0": {
        "block1": [1.11184, -1.76033, -7.55343],
        "block3": [-8.78539, -4.53388, -22.27915],
        "block5": [-2.26474, 6.40577, 10.54184],
        "block7": [1.43173, 5.29343, -1.76334],
        "mean of head": [0.46516],
    },
    "lite1": {
        "block1": [1.3089, -7.10488, 4.08264],
        "block3": [21.2662, 3.26673, -5.25499],
        "block5": [-2.92734, 2.02665, -8.96275],
        "block7": [3.34271, 1.75061, 4.04952],
        "mean of head": [0.526301],
    },
    "lite2": {
        "block1": [9.09588, -3.70586, 4.47863],
        "block3": [5.1781, 6.93352, -1.85422],
        "block5": [10.95998, -2.18055, 1.42663],
        "block7": [0.35187, -0.51373, 0.66284],
        "mean of head": [0.557758],
    },
}


def pattern(side: int) -> np.ndarray:
    """Return a fixed image, uint8 [1, side, side, 3]."""
    y, x, channel = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    pixels = x * 3 + y * 5 + x * y // 7 * (channel + 1) + channel * 40
    return (pixels % 256).astype(np.uint8)[None]


def new_trunk(name: str = "efficientnet_lite0", end_point: str = "", **settings) -> LiteTrunk:
    """Return a trunk with variables."""
    trunk = build_trunk(schema.Trunk(name, "lite", end_point, **settings))
    trunk(pattern(64))
    assert isinstance(trunk, LiteTrunk)
    return trunk


def write_state_dict(path: Path, seed: int = 0) -> str:
    """Write random weights of EfficientNet-Lite0 with timm's names."""
    random = np.random.default_rng(seed)
    shapes = torch_tensors("efficientnet_lite0", SCHEMES["conv_stem.weight"])
    state = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
    np.savez(path, **state)
    return str(path)


@needs_weights
@pytest.mark.parametrize("name", GOLDEN)
def test_end_points_are_those_of_pytorch(name: str) -> None:
    network = f"efficientnet_{name}"
    trunk = new_trunk(network)
    trunk.load(name)
    maps = {key.partition("/")[2]: value.numpy() for key, value in trunk(pattern(97)).items()}
    values = {layer: features[0, 1, 2, :3] for layer, features in maps.items()}
    values["mean of head"] = maps["head"].mean()
    for layer, golden in GOLDEN[name].items():
        np.testing.assert_allclose(values[layer], golden, rtol=0, atol=1e-4, err_msg=layer)


@needs_weights
@pytest.mark.parametrize(("number", "native_px"), [(0, 224), (1, 240), (2, 260)])
def test_all_feature_maps_equal_pytorchs(number: int, native_px: int) -> None:
    # In an environment that has them; they are no dependency of the project.
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("efficientnet_lite_pytorch")
    trunk = new_trunk(f"efficientnet_lite{number}")
    trunk.load(f"lite{number}")
    for side in (native_px, 161):
        network = peer.EfficientNet.from_name(f"efficientnet-lite{number}", image_size=side)
        network.load_state_dict(torch.load(package_file(f"lite{number}")))
        network.eval()
        images = (pattern(side).astype(np.float32) - 127) / 128
        maps = trunk(pattern(side))
        relu6 = torch.nn.functional.relu6
        blocks = iter(network._blocks)
        with torch.no_grad():
            features = torch.from_numpy(images.transpose(0, 3, 1, 2))
            for layer, units in layers_of(f"efficientnet_lite{number}").items():
                if layer == "stem":
                    features = relu6(network._bn0(network._conv_stem(features)))
                elif layer == "head":
                    features = relu6(network._bn1(network._conv_head(features)))
                else:
                    for _ in units:
                        features = next(blocks)(features)
                reference = features.numpy().transpose(0, 2, 3, 1)
                ours = maps[f"efficientnet_lite{number}/{layer}"]
                np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-4, err_msg=layer)


def test_variables_keep_their_names_wherever_the_trunk_is_used() -> None:
    names = [variable.name for variable in new_trunk().variables]
    assert [variable.name for variable in new_trunk().variables] == names
    assert names[0] == "efficientnet_lite0/stem/kernel:0"
    assert "efficientnet_lite0/block2/unit_1/depthwise/depthwise_kernel:0" in names
    assert "efficientnet_lite0/head/moving_variance:0" in names
    assert len(names) == len(set(names)) == 245


def test_parameter_groups_are_stem_blocks_and_head() -> None:
    trunk = new_trunk()
    groups = dict.fromkeys(trunk.parameter_group(variable.name) for variable in trunk.variables)
    assert list(groups) == ["stem", *(f"block{number}" for number in range(1, 8)), "head"]


@pytest.mark.parametrize(
    ("name", "end_point", "reason"),
    [
        ("efficientnet_lite7", "", r"unknown trunk 'efficientnet_lite7' of source lite\. Known: "),
        ("efficientnet_lite0", "block4", r"unknown end point efficientnet_lite0/block4\. Known "),
    ],
)
def test_unknown_networks_and_end_points_are_usage_errors(
    name: str, end_point: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        build_trunk(schema.Trunk(name, "lite", end_point))


def test_trunk_ends_at_its_end_point_and_loads_a_whole_file(tmp_path: Path) -> None:
    trunk = new_trunk(end_point="block3")
    maps = trunk(pattern(64))
    assert list(maps)[-1] == trunk.endpoint == "efficientnet_lite0/block3"
    assert maps[trunk.endpoint].shape == (1, 8, 8, 40)
    report = trunk.load(write_state_dict(tmp_path / "a.npz"))
    assert len(report.matched) == len(trunk.variables)
    assert not report.missing and "efficientnet_lite0/head/kernel" in report.unused


def test_weights_of_another_network_change_nothing(tmp_path: Path) -> None:
    trunk = new_trunk("efficientnet_lite1", "block1")
    before = trunk.variables[0].numpy()
    with pytest.raises(ValueError, match=r"a\.npz: does not hold efficientnet_lite1"):
        trunk.load(write_state_dict(tmp_path / "a.npz"))
    assert np.array_equal(trunk.variables[0].numpy(), before)


@pytest.mark.parametrize(("mode", "changes"), [("training", True), ("inference", False)])
def test_statistics_change_only_in_training(mode: str, changes: bool) -> None:
    trunk = new_trunk(end_point="block1", batch_norm=mode, batch_norm_decay=0.9)
    means = [variable for variable in trunk.variables if "moving_mean" in variable.name]
    before = [variable.numpy() for variable in means]
    trunk(pattern(64), training=False)
    assert all(np.array_equal(one, old) for one, old in zip(means, before))
    trunk(pattern(64), training=True)
    assert [not np.array_equal(one, old) for one, old in zip(means, before)] == [changes] * 3
    if changes:
        # The stem's statistics start at 0 and keep 0.9 of it.
        batch = trunk.units[0][0][0].convolution((pattern(64).astype(np.float32) - 127) / 128)
        expected = 0.1 * np.mean(batch.numpy(), axis=(0, 1, 2))
        np.testing.assert_allclose(means[0].numpy(), expected, rtol=1e-3, atol=1e-6)


def test_weight_decay_is_that_of_tf_slim() -> None:
    # TF-Slim: weight_decay * sum(kernel ** 2) / 2 of each convolution.
    trunk = new_trunk(end_point="block1", weight_decay=0.5)
    kernels = [variable for variable in trunk.variables if "kernel" in variable.name]
    expected = sum(0.5 * float(tf.reduce_sum(kernel**2)) / 2 for kernel in kernels)
    assert len(kernels) == 3
    assert float(tf.add_n(trunk.losses)) == pytest.approx(expected, rel=1e-5)


def test_all_networks_have_gradients_and_five_resolutions() -> None:
    for network in NETWORKS:
        trunk = new_trunk(network)
        with tf.GradientTape() as tape:
            maps = trunk(pattern(64), training=True)
            loss = tf.reduce_sum(maps[trunk.endpoint])
        gradients = tape.gradient(loss, trunk.trainable_variables)
        assert all(gradient is not None for gradient in gradients)
        assert maps[trunk.endpoint].shape == (1, 2, 2, 1280)
