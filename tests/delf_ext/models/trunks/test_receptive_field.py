"""Test receptive fields against the pixels that impulses and gradients reach."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from delf_ext.models.trunks.receptive_field import (
    ReceptiveField,
    receptive_field_of,
)
from delf_ext.models.trunks.slim import SlimTrunk
from delf_ext.models.trunks.trunk import Trunk, build_trunk
from delf_ext.recipes.trunk_names import trunk_named

Fields = tuple[ReceptiveField, ReceptiveField]

# --- the backbones, by the gradient of one cell

# pool1 of the ResNets has an input of 177 cells, and of 176.
ODD_PX = 353
EVEN_PX = 352


def make_positive(backbone: Trunk) -> None:
    """Set positive random kernels, so that no ReLU is zero and no terms cancel out."""
    rng = np.random.default_rng(5)
    for variable in backbone.variables:
        if variable.shape.rank == 4:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape) / np.prod(variable.shape[:3]))


def seen_pixels(backbone: Trunk, cell: int, size_px: int, axis: int, breadth_px: int) -> np.ndarray:
    """Return the lines of pixels along `axis` (0: y, 1: x) that `cell` depends on.

    Uses narrow strips of an image, which is fast. A max-pool passes gradients to one input only: to
    the last of its window if brightness rises along the axis, to the first if it falls. So there
    are two strips.
    """
    rising = np.linspace(140, 240, size_px)
    strips = np.stack([rising, rising[::-1]])[:, :, None, None] * np.ones([1, 1, breadth_px, 3])
    images = tf.constant(strips if axis == 0 else strips.swapaxes(1, 2), tf.float32)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        features = backbone(images, training=False)[backbone.endpoint]
        value = tf.reduce_sum(features[:, cell] if axis == 0 else features[:, :, cell])
    return np.flatnonzero(np.any(tape.gradient(value, images).numpy() != 0, axis=(0, 2 - axis, 3)))


def predicted_pixels(field: ReceptiveField, cell: int) -> np.ndarray:
    return cell * field.stride_px - field.padding_px + np.arange(field.size_px)


def fields_of_backbone(backbone: Trunk, height_px: int, width_px: int) -> Fields:
    graph = tf.function(lambda images: backbone(images, training=False)[backbone.endpoint])
    concrete = graph.get_concrete_function(tf.TensorSpec([None, None, None, 3], tf.uint8))
    return receptive_field_of(concrete.outputs[0], concrete.inputs[0], height_px, width_px)


def check_by_gradient(
    backbone: Trunk, cell: int, size_px: tuple[int, int], breadth_px: int = 8
) -> Fields:
    fields = fields_of_backbone(backbone, *size_px)
    make_positive(backbone)
    for axis, field in enumerate(fields):
        pixels = seen_pixels(backbone, cell, size_px[axis], axis, breadth_px)
        expected = predicted_pixels(field, cell)
        assert 0 < expected[0] < expected[-1] < size_px[axis] - 1, "the border would hide an end"
        np.testing.assert_array_equal(pixels, expected)
        assert field.centers_px()[cell] == (pixels[0] + pixels[-1]) / 2
    return fields


@pytest.mark.parametrize(
    ("layout", "cell", "odd", "even"),
    [
        ("slim", 5, (291, 32, 145), (291, 32, 143)),
        ("keras", 5, (291, 32, 145), (291, 32, 145)),
        ("v1.5", 10, (267, 16, 133), (267, 16, 133)),
    ],
)
def test_field_of_block3_equals_the_pixels_that_its_gradient_reaches(
    layout: str, cell: int, odd: tuple[int, int, int], even: tuple[int, int, int]
):
    fields = check_by_gradient(SlimTrunk("resnet_v1_50/block3", layout), cell, (ODD_PX, EVEN_PX))
    # Source of 291, 32, 145: tensorflow/models, research/delf/delf/python/feature_extractor.py.
    assert [field[:3] for field in fields] == [odd, even]


@pytest.mark.parametrize(
    ("endpoint", "cell", "size_px", "breadth_px"),
    [
        ("resnet_v2_50/block2", 6, (202, 204), 8),
        ("vgg_16/pool4", 5, (184, 201), 16),
        ("inception_v3/Mixed_6a", 7, (230, 231), 96),
        ("lite0/block3", 8, (131, 132), 32),
    ],
)
def test_fields_of_other_end_points_equal_what_their_gradients_reach(
    endpoint: str, cell: int, size_px: tuple[int, int], breadth_px: int
):
    trunk = build_trunk(trunk_named(endpoint))
    trunk(np.zeros([1, 96, 96, 3], np.float32))
    check_by_gradient(trunk, cell, size_px, breadth_px)


def test_published_padding_holds_for_sides_of_1_or_2_modulo_4():
    backbone = SlimTrunk("resnet_v1_50/block1")
    graph = tf.function(lambda images: backbone(images, training=False)[backbone.endpoint])
    concrete = graph.get_concrete_function(tf.TensorSpec([None, None, None, 3], tf.uint8))
    for side in range(224, 232):
        fields = receptive_field_of(concrete.outputs[0], concrete.inputs[0], side, 225)
        padding_px = 17 if side % 4 in (1, 2) else 15
        assert [field[:3] for field in fields] == [(35, 8, padding_px), (35, 8, 17)]
        first = 17 - padding_px
        assert list(fields[0].centers_px()[:3]) == [first, first + 8, first + 16]


# --- small networks, by impulses


def reached(layers: Callable[[tf.Tensor], tf.Tensor], size_px: int, axis: int) -> np.ndarray:
    """Return bool [n, size_px]: which cell along `axis` depends on which line of pixels."""
    images = np.eye(size_px, dtype=np.float32)[:, :, None, None] * np.ones(
        [1, 1, size_px, 1], np.float32
    )
    outputs = np.asarray(layers(tf.constant(images if axis == 1 else images.swapaxes(1, 2))))
    return np.any(outputs != 0, axis=(3 - axis, 3)).T


def fields_of(layers: Callable[[tf.Tensor], tf.Tensor], height_px: int, width_px: int) -> Fields:
    concrete = tf.function(layers).get_concrete_function(tf.TensorSpec([None, None, None, 1]))
    return receptive_field_of(concrete.outputs[0], concrete.inputs[0], height_px, width_px)


def check_by_impulses(
    layers: Callable[[tf.Tensor], tf.Tensor], size_px: int, mirrors: bool = False
) -> None:
    """Check the fields of layers with positive kernels.

    Exact for cells that see only the image. Zeros beyond the border can hide an end, but never add
    a pixel; mirrored pixels add some.
    """
    for axis, field in zip((1, 2), fields_of(layers, size_px, size_px), strict=True):
        for cell, seen in enumerate(reached(layers, size_px, axis)):
            pixels, expected = np.flatnonzero(seen), predicted_pixels(field, cell)
            if 0 <= expected[0] <= expected[-1] < size_px:
                assert pixels[[0, -1]].tolist() == expected[[0, -1]].tolist()
            else:
                assert mirrors or np.isin(pixels, expected).all()


def conv(
    x: tf.Tensor, kernel: tuple[int, int], stride: int, padding: str | list, dilation: int = 1
) -> tf.Tensor:
    return tf.nn.conv2d(x, tf.ones([*kernel, x.shape[-1], 2]), stride, padding, dilations=dilation)


LAYERS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "conv 3x3 same": partial(conv, kernel=(3, 3), stride=1, padding="SAME"),
    "conv 4x1 stride 2 same": partial(conv, kernel=(4, 1), stride=2, padding="SAME"),
    "conv 1x1 stride 3 same": partial(conv, kernel=(1, 1), stride=3, padding="SAME"),
    "conv 2x5 stride 2 valid": partial(conv, kernel=(2, 5), stride=2, padding="VALID"),
    "conv 3x2 dilated": partial(conv, kernel=(3, 2), stride=1, padding="SAME", dilation=2),
    "conv explicit": partial(
        conv, kernel=(3, 3), stride=2, padding=[[0, 0], [2, 1], [0, 1], [0, 0]]
    ),
    "depthwise": lambda x: tf.nn.depthwise_conv2d(
        x, tf.ones([3, 5, x.shape[-1], 1]), [1, 2, 2, 1], "SAME"
    ),
    "max 3x3 stride 2 same": lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"),
    "average 2x2 stride 2": lambda x: tf.nn.avg_pool2d(x, 2, 2, "VALID"),
    "zeros around": lambda x: tf.nn.relu(tf.pad(x, [[0, 0], [2, 0], [1, 3], [0, 0]])),
    "mirrored around": lambda x: tf.pad(x, [[0, 0], [1, 1], [0, 1], [0, 0]], "REFLECT"),
    "side by side": lambda x: tf.concat(
        [conv(x, (5, 3), 2, "SAME"), tf.nn.max_pool2d(x, 1, 2, "SAME")], 3
    ),
    "residual": lambda x: conv(x, (3, 3), 1, "SAME") + conv(x, (1, 1), 1, "SAME") * 2.0,
}


@given(st.lists(st.sampled_from(sorted(LAYERS)), min_size=1, max_size=3), st.integers(48, 51))
def test_fields_of_any_chain_of_layers_equal_what_impulses_reach(names: list[str], size_px: int):
    def layers(x: tf.Tensor) -> tf.Tensor:
        for name in names:
            x = LAYERS[name](x)
        return x

    check_by_impulses(layers, size_px, mirrors="mirrored around" in names)


def test_weights_of_channels_from_the_whole_map_do_not_widen_the_field() -> None:
    graph = tf.Graph()
    with graph.as_default():
        images = tf.compat.v1.placeholder(tf.float32, [None, None, None, 1])
        features = conv(images, (3, 1), 1, "SAME")
        gated = features * tf.sigmoid(tf.reduce_mean(features, [1, 2], keepdims=True))
    plain = receptive_field_of(features, images, 20, 20)
    assert receptive_field_of(gated, images, 20, 20) == plain
    assert plain[0].size_px == 3


# --- errors


def strides_apart(x: tf.Tensor) -> tf.Tensor:
    return tf.add(conv(x, (8, 1), 1, "VALID"), conv(x, (1, 1), 9, "VALID"), name="meeting")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            lambda x: tf.image.resize(tf.nn.relu(x), [4, 4]),
            "receptive field: unknown operation ResizeBilinear (resize/ResizeBil",
        ),
        (
            strides_apart,
            "receptive field: branches of unequal stride meet in meeting (AddV2): "
            "1 cells of stride 1, 1 cells of stride 9.",
        ),
        (
            lambda x: tf.nn.max_pool2d(x, 9, 1, "VALID", name="pool"),
            "receptive field: the image is too small, pool has 8 cells for a window of 9.",
        ),
        (lambda x: tf.ones([1, 2, 2, 1], name="ones"), "is not computed from x."),
    ],
)
def test_error_names_an_unknown_operation_or_shape(
    layers: Callable[[tf.Tensor], tf.Tensor], message: str
):
    with pytest.raises(ValueError) as caught:
        fields_of(layers, 8, 8)
    assert message in str(caught.value)


def test_operations_that_features_do_not_need_are_ignored():
    def layers(x: tf.Tensor) -> tf.Tensor:
        tf.reduce_mean(tf.image.resize(x, [3, 3]))
        return conv(x, (3, 3), 2, "VALID")

    assert fields_of(layers, 8, 9) == (ReceptiveField(3, 2, 0, 3), ReceptiveField(3, 2, 0, 4))


def test_channels_first_raises_value_error():
    def layers(x: tf.Tensor) -> tf.Tensor:
        return tf.nn.max_pool2d(x, 1, 2, "VALID", data_format="NCHW", name="pool")

    with pytest.raises(ValueError, match="receptive field: pool is NCHW; only NHWC is known"):
        fields_of(layers, 8, 8)
