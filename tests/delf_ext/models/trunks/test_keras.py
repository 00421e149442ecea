"""Build, freeze, regularize, and load networks of Keras."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.config import UsageError
from delf_ext.models.trunks import keras
from delf_ext.models.trunks.keras import KerasTrunk
from delf_ext.models.trunks.loading import load_keras
from delf_ext.models.trunks.network import Network, _copied, cut
from delf_ext.models.trunks.trunk import build_trunk
from delf_ext.recipes import schema
from pretrained.keras_networks import NETWORKS, layouts_of
from pretrained.torch_networks import KNOWN
from tests.delf_ext.models.trunks.torch_golden import filled, pattern

needs_zoo = pytest.mark.skipif(
    find_spec("keras_cv_attention_models") is None, reason="the extra [zoo] is not installed"
)


def new_trunk(name: str, end_point: str = "", side: int = 64, **settings) -> KerasTrunk:
    """Return a trunk with variables."""
    trunk = build_trunk(schema.Trunk(name, "keras", end_point, **settings))
    trunk(pattern(side))
    assert isinstance(trunk, KerasTrunk)
    return trunk


@pytest.mark.parametrize("side", [64, 75])
def test_keras_layout_computes_kerass_function_at_even_and_odd_sizes(
    side: int, tmp_path: Path
) -> None:
    # Keras' network of a fixed size pads by parity; ours is built once for any size.
    peer = tf.keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(side, side, 3)
    )
    rng = np.random.default_rng(0)
    for weight in peer.weights:
        if "moving_variance" in weight.name:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "moving_mean" in weight.name or "beta" in weight.name:
            weight.assign(rng.normal(0, 0.2, weight.shape))
    file = str(tmp_path / "weights.h5")
    peer.save_weights(file)
    trunk = new_trunk("mobilenetv2")
    report = trunk.load(file)
    assert not report.missing and not report.unused and len(report.matched) == 260
    maps = trunk(pattern(side))
    expected = peer(pattern(side).astype(np.float32) / 127.5 - 1, training=False)
    np.testing.assert_allclose(maps["mobilenetv2/head"], expected, rtol=0, atol=1e-4)


def test_trunk_ends_at_its_end_point_and_names_do_not_depend_on_the_process(
    tmp_path: Path,
) -> None:
    tf.keras.layers.Conv2D(1, 1)
    whole = tf.keras.applications.MobileNetV2(include_top=False, weights=None)
    whole.save_weights(str(tmp_path / "a.h5"))
    trunk = new_trunk("mobilenetv2", "block2")
    maps = trunk(pattern(64))
    assert list(maps) == ["mobilenetv2/block1", "mobilenetv2/block2"]
    assert maps[trunk.endpoint].shape == (1, 16, 16, 24)
    names = [variable.name for variable in trunk.variables]
    assert names[0] == "mobilenetv2/Conv1/kernel:0"
    assert len(set(names)) == len(names) == 45
    groups = [trunk.parameter_group(name.split(":")[0]) for name in names]
    assert sorted(groups) == ["block1"] * 15 + ["block2"] * 30
    report = trunk.load(str(tmp_path / "a.h5"))
    assert len(report.matched) == 45 and len(report.unused) == 104 - 18
    np.testing.assert_array_equal(trunk.variables[0], whole.weights[0])


@pytest.mark.parametrize(("mode", "changes"), [("training", True), ("inference", False)])
def test_statistics_change_only_in_training(mode: str, changes: bool) -> None:
    trunk = new_trunk("mobilenetv2", "block1", batch_norm=mode, batch_norm_decay=0.9)
    means = [variable for variable in trunk.variables if "moving_mean" in variable.name]
    before = [variable.numpy() for variable in means]
    trunk(pattern(64), training=False)
    assert all(np.array_equal(one, old) for one, old in zip(means, before))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(trunk(pattern(64), training=True)[trunk.endpoint])
    assert [not np.array_equal(one, old) for one, old in zip(means, before)] == [changes] * 3
    # Scale and offset of the batch norms are trained in both modes.
    gradients = tape.gradient(total, trunk.trainable_variables)
    assert len(gradients) == 9 and all(gradient is not None for gradient in gradients)


def test_weight_decay_is_that_of_tf_slim() -> None:
    trunk = new_trunk("mobilenetv2", "block1", weight_decay=0.5)
    kernels = [variable for variable in trunk.variables if "kernel" in variable.name]
    expected = sum(0.5 * float(tf.reduce_sum(kernel**2)) / 2 for kernel in kernels)
    assert len(kernels) == 3
    assert float(tf.add_n(trunk.losses)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("densenet7", {}, r"unknown trunk 'densenet7' of source keras\. Known: densenet121, "),
        ("nfnetf0", {}, r"unknown trunk 'nfnetf0' of source keras\. Known: "),
        ("xception", {"end_point": "block4"}, r"end point xception/block4\. Known of xception: "),
        ("densenet161", {"layout": "keras"}, r"densenet161 has the layouts torchvision\. Received"),
        ("resnet50", {"layout": "v1.5"}, r"resnet50 has the layouts keras\. Received 'v1.5'"),
    ],
)
def test_unknown_parts_are_usage_errors(name: str, settings: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        build_trunk(schema.Trunk(name, "keras", **{"end_point": "", **settings}))


def test_state_dict_behind_a_prefix_in_float16_is_loaded(tmp_path: Path) -> None:
    stored = keras_tensors("mobilenetv2").values()
    state = {f"module.{one.name}": filled(one.name, one.shape) for one in stored}
    np.savez(tmp_path / "a.npz", **{key: one.astype(np.float16) for key, one in state.items()})
    trunk = new_trunk("mobilenetv2", "block1", layout="torchvision")
    report = trunk.load(str(tmp_path / "a.npz"))
    assert len(report.matched) == len(trunk.variables) == 15
    assert "mobilenetv2/head/conv/kernel" in report.unused
    kernel = filled("features.0.0.weight", (32, 3, 3, 3)).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(trunk.variables[0], kernel, atol=1e-3)
    del state["module.features.0.1.bias"]
    np.savez(tmp_path / "b.npz", **state)
    with pytest.raises(ValueError, match=r"b\.npz: is not a known network\. Compared with mobil"):
        trunk.load(str(tmp_path / "b.npz"))


def keras_tensors(name: str) -> dict:
    """Return the tensors of a network of torchvision by our names."""
    return next(one for one in KNOWN if one.name == name).tensors()


def test_wrong_keras_files_are_refused_and_change_nothing(tmp_path: Path) -> None:
    trunk = new_trunk("mobilenetv2", "block1")
    before = trunk.variables[0].numpy()
    other = tf.keras.Sequential([tf.keras.layers.Conv2D(4, 3, input_shape=(8, 8, 3))])
    other.save_weights(str(tmp_path / "other.h5"))
    with pytest.raises(ValueError, match=r"does not hold mobilenetv2\. Its layer 1 is conv2d.* "):
        trunk.load(str(tmp_path / "other.h5"))
    cut = (tmp_path / "other.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(ValueError, match=r"cut\.h5: not a whole \.h5 file"):
        trunk.load(str(tmp_path / "cut.h5"))
    other.save_weights(str(tmp_path / "new.weights.h5"))
    with pytest.raises(ValueError, match=r"names no layers\. Save the weights alone in Keras' "):
        trunk.load(str(tmp_path / "new.weights.h5"))
    assert np.array_equal(trunk.variables[0].numpy(), before)


def test_file_with_input_scaling_and_other_normalizations_is_loaded(tmp_path: Path) -> None:
    # EfficientNet's Normalization is left out; ConvNeXt's last layer has a name like it.
    def network(*first: tf.keras.layers.Layer) -> tf.keras.Model:
        last = [tf.keras.layers.Conv2D(4, 1), tf.keras.layers.LayerNormalization()]
        return tf.keras.Sequential([*first, *last])

    stored = network(tf.keras.layers.Normalization(), tf.keras.layers.BatchNormalization())
    stored.build((None, None, None, 3))
    stored.layers[-1].gamma.assign([1.0, 2.0, 3.0, 4.0])
    stored.save_weights(str(tmp_path / "a.h5"))
    ours = network(tf.keras.layers.BatchNormalization())
    ours.build((None, None, None, 3))
    in_order = [
        (layer.name, layer.weights, [tuple(one.shape) for one in layer.weights])
        for layer in ours.layers
    ]
    report = load_keras(in_order, str(tmp_path / "a.h5"), "convnexttiny")
    assert len(report.matched) == 8 and not report.unused
    np.testing.assert_array_equal(ours.layers[-1].gamma, [1.0, 2.0, 3.0, 4.0])


def test_network_that_was_built_for_one_size_takes_any() -> None:
    image = tf.keras.Input((257, 257, 3))
    model = tf.keras.Model(image, tf.keras.layers.Conv2D(2, 3, strides=2, name="one")(image))
    part = cut(Network(model, {"block1": "one"}, "tf"), "small", "block1", schema.Trunk())
    assert part.model(np.zeros((1, 31, 20, 3), np.float32)).shape == (1, 15, 9, 2)
    assert part.groups == {"small/one/kernel": "block1", "small/one/bias": "block1"}


def test_convolution_of_one_channel_in_a_group_becomes_depthwise(tmp_path: Path) -> None:
    image = tf.keras.Input((None, None, 3))
    one = tf.keras.layers.Conv2D(3, 3, groups=3, padding="same", name="one")
    model = tf.keras.Model(image, one(image))
    model.save_weights(str(tmp_path / "a.h5"))
    part = cut(Network(model, {"block1": "one"}, "tf"), "small", "block1", schema.Trunk())
    load_keras(part.in_order, str(tmp_path / "a.h5"), "small")
    assert isinstance(part.model.layers[-1], tf.keras.layers.DepthwiseConv2D)
    pixels = pattern(9).astype(np.float32)
    np.testing.assert_allclose(part.model(pixels), model(pixels), rtol=1e-5, atol=1e-3)


def test_convolution_in_groups_uses_plain_operations() -> None:
    image = tf.keras.Input((None, None, 4))
    one = tf.keras.layers.Conv2D(6, 3, groups=2, padding="same", name="one")
    model = tf.keras.Model(image, one(image))
    part = keras_copy_of(model)
    for variable, value in zip(part.variables, model.get_weights(), strict=True):
        variable.assign(value)
    features = np.random.default_rng(0).random((1, 9, 9, 4), np.float32)
    np.testing.assert_allclose(part(features), model(features), atol=1e-5)
    graph = tf.function(part).get_concrete_function(tf.TensorSpec([1, 9, 9, 4])).graph
    assert not graph.as_graph_def().library.function


def keras_copy_of(model: tf.keras.Model) -> tf.keras.Model:
    """Return a copy with changed layers."""
    copy = partial(_copied, schema.Trunk(), lambda name: f"small/{name}", {})
    return tf.keras.models.clone_model(model, clone_function=copy)


def test_network_with_a_network_inside_is_copied() -> None:
    image = tf.keras.Input((None, None, 3))
    chain = [tf.keras.layers.LayerNormalization(name="norm"), tf.keras.layers.Conv2D(2, 1)]
    inner = tf.keras.Sequential(chain, name="inner")
    model = tf.keras.Model(image, tf.keras.layers.ReLU(name="last")(inner(image)))
    part = cut(
        Network(model, {"block1": "<inner", "block2": "last"}, "tf"), "s", "block2", schema.Trunk()
    )
    assert [tuple(one.shape) for one in part.model(tf.zeros([1, 8, 6, 3]))] == [
        (1, 8, 6, 3),
        (1, 8, 6, 2),
    ]
    assert len(part.groups) == 4 and set(part.groups.values()) == {"block2"}
    ((name, variables, shapes),) = part.in_order
    assert name == "inner" and [tuple(one.shape) for one in variables] == shapes


def test_every_network_is_described() -> None:
    for name, network in NETWORKS.items():
        assert network.local in network.end_points, name
        assert network.files and layouts_of(name), name
        if network.source == "keras" and network.constructor:
            assert hasattr(tf.keras.applications, network.constructor), name


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras, "ZOO", "keras_cv_attention_models_missing")
    trunk = build_trunk(schema.Trunk("nfnetf0", "zoo", ""))
    with pytest.raises(UsageError, match=r'nfnetf0 needs .*: pip install -e "\.\[zoo\]"'):
        trunk(pattern(64))


@needs_zoo
def test_networks_of_the_zoo_are_built_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr(tf.keras.utils, "get_file", refuse)
    trunk = build_trunk(schema.Trunk("efficientnetv1b1", "zoo", "block2", batch_norm="inference"))
    maps = trunk(pattern(65), training=True)
    assert {name: tuple(one.shape) for name, one in maps.items()} == {
        "efficientnetv1b1/block1": (1, 33, 33, 16),
        "efficientnetv1b1/block2": (1, 17, 17, 24),
    }
