"""Test trunks against TF-Slim's builders (names, values) and ResNet-50 in tf.nn (layouts)."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from delf_ext.models.slim_compat import inception_v3, resnet_utils, resnet_v1, resnet_v2, slim, vgg
from delf_ext.models.trunks.slim import (
    ARCHITECTURES,
    INCEPTION_LAYERS,
    LAYOUTS,
    VGG_LAYERS,
    SlimTrunk,
    _strides,
    split_endpoint,
)

MEANS = {
    "slim": (123.68, 116.779, 103.939),
    "keras": (123.68, 116.779, 103.939),
    "v1.5": (123.675, 116.28, 103.53),
}


def names_of(layer: tf.keras.layers.Layer) -> set[str]:
    return {variable.name.removesuffix(":0") for variable in layer.variables}


def built(endpoint: str, size_px: int = 64, **options: Any) -> SlimTrunk:
    backbone = SlimTrunk(endpoint, **options)
    backbone(tf.zeros([1, size_px, size_px, 3]))
    return backbone


def assign(backbone: SlimTrunk, tensors: dict[str, np.ndarray]) -> None:
    for variable in backbone.variables:
        variable.assign(tensors[variable.name.removesuffix(":0")])


@pytest.fixture(scope="module", params=list(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def resnet50(layout: str, resnet50_tensors: dict[str, np.ndarray]) -> SlimTrunk:
    backbone = built("resnet_v1_50", layout=layout)
    assign(backbone, resnet50_tensors)
    return backbone


@pytest.fixture(scope="module")
def endpoints(resnet50: SlimTrunk, images: np.ndarray) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in resnet50(images).items()}


def test_resnet50_has_the_variables_of_the_published_checkpoint(
    resnet50: SlimTrunk,
    resnet50_tensors: dict[str, np.ndarray],
):
    # resnet_v1_50.ckpt has 53 convolutions, each with weights and four batch norm vectors.
    names = names_of(resnet50)
    assert len(resnet50.variables) == len(names) == 53 * 5 == 265
    assert names >= {
        "resnet_v1_50/conv1/weights",
        "resnet_v1_50/conv1/BatchNorm/gamma",
        "resnet_v1_50/conv1/BatchNorm/moving_variance",
        "resnet_v1_50/block1/unit_1/bottleneck_v1/shortcut/weights",
        "resnet_v1_50/block2/unit_4/bottleneck_v1/conv2/BatchNorm/beta",
        "resnet_v1_50/block4/unit_3/bottleneck_v1/conv3/BatchNorm/moving_mean",
    }
    assert set(resnet50_tensors) - names == {
        "resnet_v1_50/logits/weights",
        "resnet_v1_50/logits/biases",
    }


def test_each_layout_equals_plain_tf_nn(
    twins: ModuleType, layout: str, endpoints, resnet50_tensors, images: np.ndarray
):
    expected, _ = twins.slim_forward(resnet50_tensors, images - np.float32(MEANS[layout]), layout)
    assert expected.shape == (2, 2, 2, 2048)
    assert twins.relative_difference(endpoints["resnet_v1_50/block4"], expected) < 1e-4


def test_layouts_reduce_resolution_at_different_blocks(layout: str, endpoints):
    # Strides are 8, 16, 32, 32 if they are in a block's last unit, and 4, 8, 16, 32 in v1.5.
    sides = [endpoints[f"resnet_v1_50/block{block}"].shape[1] for block in (1, 2, 3, 4)]
    assert sides == ([16, 8, 4, 2] if layout == "v1.5" else [8, 4, 2, 2])
    first_unit = endpoints["resnet_v1_50/block2/unit_1/bottleneck_v1"]
    assert first_unit.shape == (2, 8, 8, 512)
    assert list(endpoints) == [
        f"resnet_v1_50/{name}" for name in ARCHITECTURES["resnet_v1_50"].layers
    ]


def test_channel_means_are_subtracted(
    twins: ModuleType, layout: str, resnet50: SlimTrunk, resnet50_tensors
):
    image = np.broadcast_to(np.float32(MEANS[layout]), (1, 64, 64, 3))
    expected, _ = twins.slim_forward(resnet50_tensors, np.zeros((1, 64, 64, 3), np.float32), layout)
    assert twins.relative_difference(resnet50(image)[resnet50.endpoint].numpy(), expected) < 1e-4


def test_224_pixels_give_7_by_7_cells(layout: str, resnet50: SlimTrunk):
    graph = tf.function(resnet50).get_concrete_function(
        tf.TensorSpec([None, 224, 224, 3], tf.uint8)
    )
    assert graph.structured_outputs["resnet_v1_50/block4"].shape.as_list() == [None, 7, 7, 2048]
    assert graph.structured_outputs["resnet_v1_50/block3"].shape[1] == (
        14 if layout == "v1.5" else 7
    )


def test_uint8_and_float_images_give_the_same_features(images: np.ndarray):
    backbone = built("resnet_v1_50/block1")
    found = backbone(images.astype(np.uint8))[backbone.endpoint]
    assert np.array_equal(found, backbone(images)[backbone.endpoint])


@pytest.mark.parametrize("layout", ["slim"], indirect=True)
@pytest.mark.parametrize(
    ("layer", "without"), [("block1", "block2"), ("block1/unit_2/bottleneck_v1", "unit_3")]
)
def test_trunk_ends_at_its_end_point_after_other_networks_ran(
    resnet50: SlimTrunk,
    endpoints,
    layout: str,
    images: np.ndarray,
    resnet50_tensors,
    layer: str,
    without: str,
):
    # TF-Slim's own loop also lists the end points of networks that ran eagerly before.
    short = built(f"resnet_v1_50/{layer}", layout=layout)
    assign(short, resnet50_tensors)
    found = short(images)
    assert list(found)[-1] == short.endpoint == f"resnet_v1_50/{layer}"
    assert names_of(short) < names_of(resnet50) and not any(
        without in name for name in names_of(short)
    )
    np.testing.assert_allclose(
        found[short.endpoint], endpoints[short.endpoint], rtol=1e-5, atol=1e-5
    )
    graph = tf.compat.v1.get_default_graph()
    assert not any(graph.get_collection(key) for key in graph.get_all_collection_keys())


def build_with_tf_slim(backbone: str, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """Build a network with TF-Slim's own function in a TF1 graph; return layer -> feature map."""
    if backbone == "inception_v3":
        normalizer = {
            "normalizer_fn": slim.batch_norm,
            "normalizer_params": {"epsilon": 0.001, "is_training": False},
        }
        with slim.arg_scope([slim.conv2d], **normalizer):
            return inception_v3.inception_v3_base(images, scope="InceptionV3")[1]
    if backbone == "vgg_16":
        with slim.arg_scope(vgg.vgg_arg_scope()):
            found = vgg.vgg_16(images, is_training=False)[1]
        return {
            name.removeprefix("vgg_16/").split("/")[-1]: tensor for name, tensor in found.items()
        }
    module = resnet_v2 if backbone == "resnet_v2_50" else resnet_v1
    with slim.arg_scope(resnet_utils.resnet_arg_scope()):
        net, found = getattr(module, backbone)(images, is_training=False, global_pool=False)
    return {name.removeprefix(f"{backbone}/"): tensor for name, tensor in found.items()} | {
        "block4": net
    }


def check_names_and_shapes(
    name: str, expected: dict[str, tf.Tensor], variables: list[tf.Variable], backbone: SlimTrunk
) -> None:
    """Compare with the feature maps and variables of TF-Slim for an image of the same size."""
    size_px = _size_px(name)
    graph = tf.function(backbone).get_concrete_function(tf.TensorSpec([1, size_px, size_px, 3]))
    found = {
        layer.removeprefix(f"{name}/"): tensor.shape
        for layer, tensor in graph.structured_outputs.items()
    }
    layers = [layer for layer in ARCHITECTURES[name].layers if layer in found]
    assert found == {layer: expected[_tf_slim_name(name, layer)].shape for layer in layers}
    assert set(ARCHITECTURES[name].layers) - set(layers) == (
        {"pool5"} if name == "vgg_16" else set()
    )
    names = {variable.name.removesuffix(":0") for variable in variables}
    assert names_of(backbone) == {name for name in names if "/fc" not in name}


def _size_px(name: str) -> int:
    # TF-Slim's VGG has fully connected layers, which need 224 pixels.
    return 224 if name == "vgg_16" else 96


@pytest.mark.parametrize("name", ["resnet_v1_50", "vgg_16"])
def test_names_and_shapes_equal_tf_slims(name: str):
    with tf.Graph().as_default():
        images = tf.compat.v1.placeholder(tf.float32, [1, _size_px(name), _size_px(name), 3])
        expected = build_with_tf_slim(name, images)
        variables = tf.compat.v1.global_variables()
    check_names_and_shapes(name, expected, variables, SlimTrunk(name))


@pytest.mark.parametrize(
    "name", [name for name in ARCHITECTURES if name.startswith("resnet_v1")], ids=str
)
def test_units_of_resnets_equal_tf_slims(name: str, monkeypatch: pytest.MonkeyPatch):
    """The network of 50 layers is compared as a whole above; the others have more units."""
    calls: list[list] = []
    monkeypatch.setattr(
        resnet_v1, "resnet_v1", lambda images, blocks, *_, **__: calls.append(blocks)
    )
    getattr(resnet_v1, name)(None)
    layers = []
    units = []
    for number, block in enumerate(calls[0], start=1):
        layers += [f"{block.scope}/unit_{row + 1}/bottleneck_v1" for row in range(len(block.args))]
        layers.append(block.scope)
        units.append(len(block.args))
        strides = [unit["stride"] for unit in block.args]
        assert _strides(number, len(block.args), LAYOUTS["slim"]) == strides
        assert {unit["depth_bottleneck"] for unit in block.args} == {64 * 2 ** (number - 1)}
    assert ARCHITECTURES[name].layers == tuple(layers)
    assert ARCHITECTURES[name].build.args == (tuple(units),)


def _tf_slim_name(network: str, layer: str) -> str:
    """Return TF-Slim's name of a layer; it lists each convolution of a VGG block."""
    if network == "vgg_16" and layer.startswith("conv"):
        return f"{layer}_{2 if layer in ('conv1', 'conv2') else 3}"
    return layer


@pytest.mark.parametrize("name", ["resnet_v2_50", "inception_v3"])
def test_networks_with_scaled_input_equal_tf_slims(name: str):
    images = np.random.default_rng(3).integers(0, 256, (1, 96, 96, 3)).astype(np.float32)
    backbone = built(name, 96)
    rng = np.random.default_rng(4)
    for variable in backbone.variables:
        if "BatchNorm" in variable.name or "norm" in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    values = {variable.name: variable.numpy() for variable in backbone.variables}
    found = backbone(images)[backbone.endpoint].numpy()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        maps = build_with_tf_slim(name, tf.constant(images / 127.5 - 1))
        expected = maps[backbone.layer]
        variables = tf.compat.v1.global_variables()
        feed = {variable.initializer.inputs[1]: values[variable.name] for variable in variables}
        session.run([variable.initializer for variable in variables], feed)
        expected = session.run(expected)
    check_names_and_shapes(name, maps, variables, backbone)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_training_changes_batch_statistics_by_their_decay(images: np.ndarray):
    backbone = built("resnet_v1_50/block1", batch_norm_decay=0.9)
    by_name = {variable.name: variable for variable in backbone.variables}
    mean, kernel = (
        by_name["resnet_v1_50/conv1/BatchNorm/moving_mean:0"],
        by_name["resnet_v1_50/conv1/weights:0"],
    )
    padded = tf.pad(images - np.float32(MEANS["slim"]), [[0, 0], [3, 3], [3, 3], [0, 0]])
    batch_mean = tf.reduce_mean(tf.nn.conv2d(padded, kernel, 2, "VALID"), [0, 1, 2]).numpy()
    mean.assign(np.full(64, 5.0))
    backbone(images, training=True)
    np.testing.assert_allclose(mean.numpy(), 0.9 * 5.0 + 0.1 * batch_mean, rtol=1e-4, atol=1e-4)
    after = [variable.numpy() for variable in backbone.variables]
    backbone(images, training=False)
    assert all(
        np.array_equal(variable, before)
        for variable, before in zip(backbone.variables, after, strict=True)
    )


@pytest.mark.parametrize(
    "name", ["resnet_v1_50/block1", "inception_v3/Conv2d_2b_3x3", "resnet_v2_50/block1"]
)
def test_frozen_statistics_are_used_and_kept_in_training(name: str, images: np.ndarray):
    backbone = built(name, freeze_batch_norm=True)
    before = [variable.numpy() for variable in backbone.variables]
    in_training = backbone(images, training=True)[backbone.endpoint]
    assert all(
        np.array_equal(variable, value)
        for variable, value in zip(backbone.variables, before, strict=True)
    )
    assert np.array_equal(in_training, backbone(images, training=False)[backbone.endpoint])
    free = built(name)
    statistics = [variable for variable in free.variables if "moving_mean" in variable.name]
    free(images, training=True)
    assert len(statistics) >= 3 and all(
        np.abs(variable.numpy()).max() > 0 for variable in statistics
    )


def test_losses_have_the_weight_decay():
    # TF-Slim's l2_regularizer: decay * sum(w^2) / 2, of kernels only.
    backbone = built("resnet_v1_50/block1", weight_decay=0.5)
    kernels = [
        variable.numpy().astype(np.float64)
        for variable in backbone.variables
        if variable.name.endswith("weights:0")
    ]
    assert len(backbone.losses) == len(kernels) == 11
    assert float(tf.add_n(backbone.losses)) == pytest.approx(
        0.5 * sum((kernel**2).sum() / 2 for kernel in kernels), rel=1e-5
    )
    assert built("resnet_v1_50/block1", weight_decay=0.0).losses == []


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("resnet_v1_50", ("resnet_v1_50", "block4")),
        ("resnet_v1_50/block3", ("resnet_v1_50", "block3")),
        (
            "resnet_v1_50/block3/unit_2/bottleneck_v1",
            ("resnet_v1_50", "block3/unit_2/bottleneck_v1"),
        ),
        ("inception_v3", ("inception_v3", "Mixed_7c")),
        ("vgg_16", ("vgg_16", "conv5")),
        ("vgg_16/pool5", ("vgg_16", "pool5")),
    ],
)
def test_split_endpoint(endpoint: str, expected: tuple[str, str]):
    assert split_endpoint(endpoint) == expected


RESNET_KNOWN = "block1, block2, block3, block4, or one unit such as block1/unit_1/bottleneck_v"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SlimTrunk("resnet_50"),
            f"unknown trunk 'resnet_50' (--resnet_type). Known: {', '.join(ARCHITECTURES)}, ",
        ),
        (
            lambda: SlimTrunk("resnet_v1_50/block5"),
            "unknown end point 'resnet_v1_50/block5' (--resnet_type). "
            f"Known of resnet_v1_50: {RESNET_KNOWN}1.",
        ),
        (
            lambda: SlimTrunk("resnet_v1_50/block3/unit_7/bottleneck_v1"),
            "unknown end point 'resnet_v1_50/block3/unit_7/bottleneck_v1' (--resnet_type). "
            "Known of resnet_v1_50: block1, ",
        ),
        (lambda: SlimTrunk("resnet_v2_50/conv1"), f"Known of resnet_v2_50: {RESNET_KNOWN}2."),
        (
            lambda: SlimTrunk("inception_v3/Mixed_8a"),
            f"Known of inception_v3: {', '.join(INCEPTION_LAYERS)}.",
        ),
        (lambda: SlimTrunk("vgg_16/fc6"), f"Known of vgg_16: {', '.join(VGG_LAYERS)}."),
        (lambda: SlimTrunk(layout="v2"), "unknown layout 'v2'. Known: slim, keras, v1.5."),
        (
            lambda: SlimTrunk("vgg_16", layout="v1.5"),
            "layout 'v1.5' is one of resnet_v1; vgg_16 has TF-Slim's only: leave --layout out.",
        ),
    ],
)
def test_unknown_names_raise_value_error_listing_known_ones(
    make: Callable[[], SlimTrunk], message: str
):
    with pytest.raises(ValueError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "name", "group"),
    [
        ("resnet_v1_50/block1", "resnet_v1_50/conv1/weights", "stem"),
        ("resnet_v1_50/block1", "resnet_v1_50/block1/unit_1/bottleneck_v1/conv1/weights", "block1"),
        ("resnet_v2_50", "resnet_v2_50/conv1/biases", "stem"),
        ("resnet_v2_50", "resnet_v2_50/postnorm/gamma", "postnorm"),
        ("vgg_16/conv1", "vgg_16/conv1/conv1_2/weights", "conv1"),
        ("inception_v3", "InceptionV3/Mixed_5b/Branch_0/Conv2d_0a_1x1/weights", "Mixed_5b"),
    ],
)
def test_parameters_are_grouped_by_block(endpoint: str, name: str, group: str):
    assert SlimTrunk(endpoint).parameter_group(name) == group
