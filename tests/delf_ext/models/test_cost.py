"""Test the counts of multiply-accumulates: by hand, published ones, and those of ptflops."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from delf_ext.models.cost import Cost, model_cost, network_cost
from delf_ext.models.embedding_model import EmbeddingModel
from delf_ext.models.trunks.trunk import build_trunk
from delf_ext.recipes import schema

layers = tf.keras.layers


def cost_of(*parts: tf.keras.layers.Layer, size_px: int = 10) -> Cost:
    """Return the cost of layers, one after the other, on an image [S, S, 3]."""
    network = tf.keras.Sequential(parts)
    return network_cost(lambda images: ({}, network(images, training=False)), size_px, network)


def resnet50() -> EmbeddingModel:
    trunk = schema.Trunk("resnet_v1_50", layout="v1.5")
    head = schema.Head("main", schema.Average(), classifier=schema.Linear())
    return EmbeddingModel(schema.Model(trunk, (head,), ("main",)), num_classes=1000)


@pytest.mark.parametrize(
    ("parts", "by_hand"),
    [
        # 3 * 3 kernel positions, 3 channels, 8 filters, 10 * 10 outputs; a bias for each output.
        ([layers.Conv2D(8, 3, padding="same")], 3 * 3 * 3 * 8 * 100 + 8 * 100),
        ([layers.Conv2D(8, 3, strides=2, use_bias=False)], 3 * 3 * 3 * 8 * 16),
        ([layers.Conv2D(8, 3, padding="same", dilation_rate=2, use_bias=False)], 21_600),
        ([layers.DepthwiseConv2D(3, padding="same", use_bias=False)], 3 * 3 * 3 * 100),
        (
            [layers.DepthwiseConv2D(3, padding="same", use_bias=False, depth_multiplier=2)],
            3 * 3 * 6 * 100,
        ),
        # 3 groups: each filter sees 1 of 3 channels.
        (
            [layers.Conv2D(6, 3, padding="same", groups=3, use_bias=False)],
            3 * 3 * 1 * 6 * 100,
        ),
        ([layers.Flatten(), layers.Dense(5)], 300 * 5 + 5),
        ([layers.BatchNormalization()], 2 * 300),
        ([layers.ReLU()], 300),
        ([layers.ReLU(6.0)], 300),
        ([layers.MaxPool2D(2)], 300),
        ([layers.GlobalAveragePooling2D()], 300),
        ([layers.Activation("sigmoid"), layers.ZeroPadding2D(1), layers.Softmax()], 0),
        # [1, 10, 10, 3] times its transpose: 10 matrices of 10 * 3 * 10.
        ([layers.Lambda(lambda x: tf.matmul(x, x, transpose_b=True))], 10 * 10 * 3 * 10),
        ([layers.Lambda(lambda x: tf.matmul(x, x, transpose_a=True))], 10 * 3 * 10 * 3),
    ],
)
def test_one_layer_by_hand(parts: list[tf.keras.layers.Layer], by_hand: int) -> None:
    assert cost_of(*parts).macs == {"heads": by_hand}


def test_weights_by_hand() -> None:
    cost = cost_of(layers.Conv2D(8, 3), layers.BatchNormalization())
    trainable = 3 * 3 * 3 * 8 + 8 + 2 * 8
    statistics = 2 * 8
    assert cost.num_parameters == trainable
    assert cost.num_bytes == 4 * (trainable + statistics)
    assert cost.megabytes == cost.num_bytes / 1e6


def test_each_operation_counts_once_in_the_first_block_that_needs_it() -> None:
    first, second, unused = (layers.Conv2D(3, 1, use_bias=False) for _ in range(3))

    def run(images: tf.Tensor) -> Any:
        a = first(images)
        b = second(a) + a
        unused(images)
        return {"a": a, "b": b}, (b, a, tf.nn.relu(b))

    assert network_cost(run, 10, tf.Module()).macs == {"a": 900, "b": 900, "heads": 300}


class CopiedWhenBuilt(layers.Layer):
    """Copies a network with plain operations when it is built, as the trunks of the zoo do."""

    def build(self, shape: Any) -> None:
        with tf.init_scope():
            image = tf.keras.Input((None, None, 3))
            scaled = layers.Conv2D(3, 1, use_bias=False)(image) * 2.0 * 0.5
            self.inner = tf.keras.models.clone_model(tf.keras.Model(image, scaled))
        super().build(shape)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return self.inner(images)


def test_network_that_is_built_while_it_is_traced_is_counted() -> None:
    layer = CopiedWhenBuilt()
    assert network_cost(lambda images: ({}, layer(images)), 10, layer).macs == {"heads": 900}


def test_operation_without_a_rule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot be counted: operation .*\(Einsum\) has no rule"):
        cost_of(layers.Lambda(lambda x: tf.einsum("bhwc,bhwd->bcd", x, x)))


# Published: torchvision's ResNet-50 4.09 GMac of convolutions (4.12 by ptflops' table, with batch
# norms and ReLU) and 25.557 M parameters.
def test_resnet50_in_the_v15_layout() -> None:
    cost = model_cost(resnet50(), 224)
    assert round(cost.gmac, 2) == 4.12
    assert cost.num_parameters == 25_557_032
    assert list(cost.macs) == ["block1", "block2", "block3", "block4", "heads"]
    # By hand: batch norm, ReLU and pooling are less than 2 % of a block of bottlenecks at 14 px:
    # 6 units of 1x1, 3x3, 1x1 with 256 channels inside; the first unit's 1x1 is at 28 px.
    unit = 1024 * 256 + 9 * 256 * 256 + 256 * 1024
    first = 4 * 512 * 256 + 9 * 256 * 256 + 256 * 1024 + 512 * 1024
    assert cost.macs["block3"] == pytest.approx((5 * unit + first) * 14 * 14, rel=0.02)


# Sandler et al. 2018 (arXiv:1801.04381), table 4: 300 M multiply-adds, 3.4 M parameters.
def test_mobilenet_v2() -> None:
    network = tf.keras.applications.MobileNetV2(weights=None)
    cost = network_cost(lambda images: ({}, network(images, training=False)), 224, network)
    assert round(cost.gmac, 1) == 0.3
    assert round(cost.num_parameters / 1e6, 1) == 3.5


# Howard et al. 2019 (arXiv:1905.02244), table 3: 219 M multiply-adds with a classifier, which has
# 2.5 M of the 5.4 M parameters; batch norms, activations and the means of its gates come on top.
def test_mobilenet_v3_large() -> None:
    trunk = build_trunk(schema.Trunk("mobilenetv3large", "keras", "", layout="torchvision"))
    cost = network_cost(lambda images: ({}, list(trunk(images).values())), 224, trunk)
    assert round(cost.gmac, 2) == 0.23
    assert cost.num_parameters == 2_971_952


# The project's page (tensorflow/tpu, efficientnet/lite): 407 M multiply-adds, 4.7 M parameters with
# a classifier of 1,000 classes.
def test_efficientnet_lite0() -> None:
    trunk = schema.Trunk("efficientnet_lite0", source="lite", end_point="")
    head = schema.Head("main", schema.Average(), classifier=schema.Linear())
    cost = model_cost(EmbeddingModel(schema.Model(trunk, (head,), ("main",)), 1000), 224)
    assert round(cost.gmac, 1) == 0.4
    assert round(cost.num_parameters / 1e6, 1) == 4.7


def test_counts_are_those_of_ptflops() -> None:
    reason = "cross-check: needs PyTorch and ptflops, which the project does not install"
    torch = pytest.importorskip("torch", reason=reason)
    ptflops = pytest.importorskip("ptflops", reason=reason)
    nn = torch.nn

    def unit(channels: int, inner: int, stride: int, is_first: bool) -> Any:
        """Return one bottleneck unit; the sum costs nothing, so its two ways are added up."""
        convolutions = [
            *(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()),
            nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False),
            *(nn.BatchNorm2d(inner), nn.ReLU()),
            *(nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)),
        ]
        unit = nn.Module()
        unit.way = nn.Sequential(*convolutions)
        unit.shortcut = nn.Sequential()
        if is_first:
            unit.shortcut = nn.Sequential(
                nn.Conv2d(channels, 4 * inner, 1, stride, bias=False), nn.BatchNorm2d(4 * inner)
            )
        unit.relu = nn.ReLU()
        unit.forward = lambda x: unit.relu(unit.way(x) + unit.shortcut(x))
        return unit

    units = []
    channels = 64
    for inner, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for number in range(count):
            units.append(unit(channels, inner, 1 if number else stride, not number))
            channels = 4 * inner
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    top = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)]
    network = nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1), *units, *top)
    macs, num_parameters = ptflops.get_model_complexity_info(
        network,
        (3, 224, 224),
        as_strings=False,
        print_per_layer_stat=False,
        backend_specific_config={"count_functional": False},
    )
    cost = model_cost(resnet50(), 224)
    assert num_parameters == cost.num_parameters
    # Padding of pool1 is outside of the pooling in TensorFlow: its border is counted too.
    border = 64 * (114 * 114 - 112 * 112)
    assert sum(cost.macs.values()) - border == macs
