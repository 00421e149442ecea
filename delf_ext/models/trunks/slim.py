"""Build TF-Slim's networks as Keras layers; variables keep the names of published checkpoints.

Only this file and `slim_compat` use TF-Slim. Source of the networks: tf_slim.nets 1.1.0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from data_io.weight_kinds import STATE_DICT, weight_kind
from delf_ext.config import UsageError
from delf_ext.models.checkpoints import LoadReport, load_by_name
from delf_ext.models.slim_compat import inception_v3, resnet_utils, resnet_v1, resnet_v2, slim, vgg
from delf_ext.models.trunks.loading import load_torch
from delf_ext.recipes import schema
from pretrained.keras_networks import NETWORKS
from pretrained.lite_networks import NETWORKS as LITE

# Means of ImageNet's channels, as TF-Slim and Caffe subtract them.
VGG_MEANS = (123.68, 116.779, 103.939)
# 255 * (0.485, 0.456, 0.406).
TORCHVISION_MEANS = (123.675, 116.28, 103.53)

Endpoints = dict[str, tf.Tensor]
"""Name of an end point -> feature map [B, h, w, C]."""


@dataclass(frozen=True)
class Layout:
    """Where a ResNet v1 reduces resolution, and which means it subtracts.

    Weights trained in one layout load into another without an error, but work badly.

    Attributes:
        stride_in_last_unit: a block's stride is in its last unit (TF-Slim); otherwise in the first
            unit of the next block (torchvision v1.5).
        padded_pool: pool1 pads one pixel on each side (Caffe, Keras, torchvision); otherwise its
            padding is `SAME` (TF-Slim).
        means: of the channels.
    """

    stride_in_last_unit: bool
    padded_pool: bool
    means: tuple[float, float, float]


# Keras has the stride in the first 1x1 convolutions of the next block, which read every second
# pixel of the block before. This is the same function as TF-Slim's stride in the last unit, apart
# from pool1.
LAYOUTS = {
    "slim": Layout(True, False, VGG_MEANS),
    "keras": Layout(True, True, VGG_MEANS),
    "v1.5": Layout(False, True, TORCHVISION_MEANS),
}


# Number of convolutions, and their channels.
VGG_BLOCKS = {
    "conv1": (2, 64),
    "conv2": (2, 128),
    "conv3": (3, 256),
    "conv4": (3, 512),
    "conv5": (3, 512),
}
VGG_LAYERS = tuple(f"{kind}{number}" for number in range(1, 6) for kind in ("conv", "pool"))
BOTTLENECKS = {"bottleneck_v1": resnet_v1.bottleneck, "bottleneck_v2": resnet_v2.bottleneck}


def folded_batch_norm(features: tf.Tensor, **settings: Any) -> tf.Tensor:
    """Fold a batch norm that keeps its statistics into the convolution before it, in training.

    In inference mode it is a linear map of each channel. So a convolution with scaled kernels is
    the same function up to rounding, with the same gradients, and saves a pass over the feature
    map in both directions. It is a `normalizer_fn` of TF-Slim.

    Args:
        features: [B, h, w, C], output of a convolution.
        settings: arguments of `slim.batch_norm`.

    Returns:
        [B, h, w, C].
    """
    # It creates the variables. The graph drops operations that nothing reads.
    normalized = slim.batch_norm(features, is_training=False, **settings)
    if tf.executing_eagerly() or features.op.type != "Conv2D" or not settings.get("scale"):
        return normalized
    channels = features.shape[-1:]
    gamma, beta, mean, variance = (
        tf.compat.v1.get_variable(f"BatchNorm/{role}", channels)
        for role in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    scale = gamma * tf.math.rsqrt(variance + settings["epsilon"])
    convolution = features.op
    inputs, kernel = convolution.inputs
    folded = tf.nn.conv2d(
        inputs,
        kernel * scale,
        convolution.get_attr("strides"),
        convolution.get_attr("padding").decode(),
        dilations=convolution.get_attr("dilations"),
    )
    return tf.nn.bias_add(folded, beta - mean * scale)


def _residual_units(
    net: tf.Tensor, bottleneck: str, units: tuple[int, ...], layer: str, layout: Layout
) -> Endpoints:
    """Build blocks 1 to 4 up to `layer` from TF-Slim's units."""
    # TF-Slim's own loop returns end points in a collection of the default graph, which keeps those
    # of other networks.
    endpoints: Endpoints = {}
    for block, count in enumerate(units, start=1):
        base = 64 * 2 ** (block - 1)
        for unit, stride in enumerate(_strides(block, count, layout), start=1):
            scope = f"block{block}/unit_{unit}"
            with tf.compat.v1.variable_scope(scope):
                net = BOTTLENECKS[bottleneck](
                    net, depth=base * 4, depth_bottleneck=base, stride=stride
                )
            name = f"{scope}/{bottleneck}"
            endpoints[name] = net
            if name == layer:
                return endpoints
        endpoints[f"block{block}"] = net
        if layer == f"block{block}":
            break
    return endpoints


def _strides(block: int, count: int, layout: Layout) -> list[int]:
    strides = [1] * count
    if layout.stride_in_last_unit and block < 4:
        strides[-1] = 2
    if not layout.stride_in_last_unit and block > 1:
        strides[0] = 2
    return strides


def _resnet_v1(units: tuple[int, ...], images: tf.Tensor, layer: str, layout: Layout) -> Endpoints:
    net = resnet_utils.conv2d_same(images, 64, 7, stride=2, scope="conv1")
    if layout.padded_pool:
        # conv1 ends in a ReLU, so zeros never change a maximum.
        padded = tf.pad(net, [[0, 0], [1, 1], [1, 1], [0, 0]])
        net = tf.nn.max_pool2d(padded, 3, 2, "VALID", name="pool1")
    else:
        net = tf.nn.max_pool2d(net, 3, 2, "SAME", name="pool1")
    return _residual_units(net, "bottleneck_v1", units, layer, layout)


def _resnet_v2(units: tuple[int, ...], images: tf.Tensor, layer: str, layout: Layout) -> Endpoints:
    # The first unit begins with the batch norm and the ReLU.
    with slim.arg_scope([slim.conv2d], activation_fn=None, normalizer_fn=None):
        net = resnet_utils.conv2d_same(images, 64, 7, stride=2, scope="conv1")
    net = tf.nn.max_pool2d(net, 3, 2, "SAME", name="pool1")
    endpoints = _residual_units(net, "bottleneck_v2", units, layer, layout)
    if layer == "block4":
        # TF-Slim's end point is before the last batch norm and ReLU; features are used after them.
        endpoints[layer] = slim.batch_norm(
            endpoints[layer], activation_fn=tf.nn.relu, scope="postnorm"
        )
    return endpoints


def _vgg_16(images: tf.Tensor, layer: str, layout: Layout) -> Endpoints:
    """Build VGG-16 as tf_slim.nets.vgg does, without the fully connected layers."""
    endpoints: Endpoints = {}
    net = images
    for name in VGG_LAYERS[: VGG_LAYERS.index(layer) + 1]:
        if name in VGG_BLOCKS:
            repeats, depth = VGG_BLOCKS[name]
            net = slim.repeat(net, repeats, slim.conv2d, depth, [3, 3], scope=name)
        else:
            net = slim.max_pool2d(net, [2, 2], scope=name)
        endpoints[name] = net
    return endpoints


def _inception_v3(images: tf.Tensor, layer: str, layout: Layout) -> Endpoints:
    _, endpoints = inception_v3.inception_v3_base(
        images, final_endpoint=layer, scope=tf.compat.v1.get_variable_scope()
    )
    return endpoints


def _inception_arg_scope(weight_decay: float, batch_norm_decay: float) -> Any:
    # TF-Slim's own arguments add the statistics to a TF1 collection, which fails in TF2.
    batch_norm = {"decay": batch_norm_decay, "epsilon": 0.001}
    usual = inception_v3.inception_v3_arg_scope(weight_decay)
    with (
        slim.arg_scope(usual),
        slim.arg_scope([slim.conv2d], normalizer_params=batch_norm) as scope,
    ):
        return scope


def _vgg_arg_scope(weight_decay: float, batch_norm_decay: float) -> Any:
    # VGG has no batch norm.
    return vgg.vgg_arg_scope(weight_decay)


class Architecture(NamedTuple):
    """One network of TF-Slim: how it is built, and the names of its parts.

    Attributes:
        build: (normalised images [B, H, W, 3], last layer to build, layout) -> feature maps.
        arg_scope: (weight_decay, batch_norm_decay) -> TF-Slim's default arguments of its layers.
        scope: prefix of its variables in a checkpoint.
        layers: its end points, from the image on.
        default: the end point that is used if a recipe names only the network.
        subtracts_means: the input is pixels minus channel means; otherwise pixels in -1..1.
        local: the end point for local features if none is named: the last one of stride 16, or 32
            in TF-Slim's layout of a ResNet.
    """

    build: Callable[[tf.Tensor, str, Layout], Endpoints]
    arg_scope: Callable[[float, float], Any]
    scope: str
    layers: tuple[str, ...]
    default: str
    subtracts_means: bool
    local: str = "block3"


def _resnet(name: str, *units: int) -> Architecture:
    is_v1 = name.startswith("resnet_v1")
    bottleneck = "bottleneck_v1" if is_v1 else "bottleneck_v2"
    # TF-Slim's names: "block1/unit_1/bottleneck_v1", ..., "block1", "block2/unit_1/...".
    layers: list[str] = []
    for block, count in enumerate(units, start=1):
        layers += [f"block{block}/unit_{unit}/{bottleneck}" for unit in range(1, count + 1)]
        layers.append(f"block{block}")
    build = partial(_resnet_v1 if is_v1 else _resnet_v2, units)
    return Architecture(
        build, resnet_utils.resnet_arg_scope, name, tuple(layers), "block4", subtracts_means=is_v1
    )


# Names in TF-Slim's inception_v3_base, from the image on.
INCEPTION_LAYERS = (
    "Conv2d_1a_3x3",
    "Conv2d_2a_3x3",
    "Conv2d_2b_3x3",
    "MaxPool_3a_3x3",
    "Conv2d_3b_1x1",
    "Conv2d_4a_3x3",
    "MaxPool_5a_3x3",
    "Mixed_5b",
    "Mixed_5c",
    "Mixed_5d",
    "Mixed_6a",
    "Mixed_6b",
    "Mixed_6c",
    "Mixed_6d",
    "Mixed_6e",
    "Mixed_7a",
    "Mixed_7b",
    "Mixed_7c",
)
ARCHITECTURES = {
    "resnet_v1_50": _resnet("resnet_v1_50", 3, 4, 6, 3),
    "resnet_v1_101": _resnet("resnet_v1_101", 3, 4, 23, 3),
    "resnet_v1_152": _resnet("resnet_v1_152", 3, 8, 36, 3),
    "resnet_v2_50": _resnet("resnet_v2_50", 3, 4, 6, 3),
    "inception_v3": Architecture(
        _inception_v3,
        _inception_arg_scope,
        "InceptionV3",
        INCEPTION_LAYERS,
        "Mixed_7c",
        subtracts_means=False,
        local="Mixed_6e",
    ),
    "vgg_16": Architecture(
        *(_vgg_16, _vgg_arg_scope, "vgg_16", VGG_LAYERS, "conv5"),
        subtracts_means=True,
        local="conv5",
    ),
}


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """Split "resnet_v1_50/block3" into ("resnet_v1_50", "block3").

    Args:
        endpoint: a network without an end point means its default end point.

    Returns:
        The network and the end point.

    Raises:
        UsageError: the network or the end point is unknown; the message lists the known ones.
    """
    backbone, _, layer = endpoint.partition("/")
    if backbone not in ARCHITECTURES:
        raise UsageError(
            f"unknown trunk {backbone!r} (--resnet_type). "
            f"Known: {', '.join([*ARCHITECTURES, *LITE, *NETWORKS])}."
        )
    network = ARCHITECTURES[backbone]
    layer = layer or network.default
    if layer not in network.layers:
        known = [name for name in network.layers if "/" not in name]
        units = f", or one unit such as {network.layers[0]}" if "/" in network.layers[0] else ""
        raise UsageError(
            f"unknown end point {endpoint!r} (--resnet_type). "
            f"Known of {backbone}: {', '.join(known)}{units}."
        )
    return backbone, layer


class SlimTrunk(tf.keras.layers.Layer):
    """Trunk up to one end point; Keras' `losses` has its weight decay."""

    def __init__(
        self,
        endpoint: str = "resnet_v1_50/block4",
        layout: str = "slim",
        weight_decay: float = 1e-4,
        freeze_batch_norm: bool = False,
        batch_norm_decay: float = 0.997,
    ) -> None:
        """Prepare the trunk; its variables are created at the first call.

        Args:
            endpoint: such as "resnet_v1_50/block3".
            layout: a key of LAYOUTS.
            weight_decay: of the convolutions.
            freeze_batch_norm: use and keep the stored statistics also in training.
            batch_norm_decay: a training step changes the statistics by 1 - batch_norm_decay.

        Raises:
            UsageError: the network, end point or layout is unknown.
        """
        super().__init__(name="trunk")
        self.backbone, self.layer = split_endpoint(endpoint)
        network = ARCHITECTURES[self.backbone]
        self.endpoint = f"{self.backbone}/{self.layer}"
        if layout not in LAYOUTS:
            raise UsageError(f"unknown layout {layout!r}. Known: {', '.join(LAYOUTS)}.")
        if layout != "slim" and not self.backbone.startswith("resnet_v1"):
            raise UsageError(
                f"layout {layout!r} is one of resnet_v1; {self.backbone} has TF-Slim's only: "
                "leave --layout out."
            )
        self.layout = LAYOUTS[layout]
        self.local_layer = network.local
        self.freeze_batch_norm = freeze_batch_norm
        self.weight_decay = weight_decay
        self.batch_norm_decay = batch_norm_decay

    @tf.compat.v1.keras.utils.track_tf1_style_variables
    def call(self, images: tf.Tensor, training: bool = False) -> Endpoints:
        """Compute the feature maps of all end points up to the last one.

        Args:
            images: [B, H, W, 3], RGB 0..255, any dtype.
            training: use and change the statistics, unless they are frozen.

        Returns:
            Feature maps [B, h, w, C] by name, such as "resnet_v1_50/block3".
        """
        network = ARCHITECTURES[self.backbone]
        pixels = tf.cast(images, tf.float32)
        if network.subtracts_means:
            normalized = pixels - tf.constant(self.layout.means)
        else:
            normalized = pixels / 127.5 - 1.0
        learns_statistics = bool(training) and not self.freeze_batch_norm
        folds = bool(training) and self.freeze_batch_norm and self.backbone.startswith("resnet_v1")
        normalizer = {"normalizer_fn": folded_batch_norm} if folds else {}
        with (
            slim.arg_scope(network.arg_scope(self.weight_decay, self.batch_norm_decay)),
            slim.arg_scope([slim.batch_norm], is_training=learns_statistics),
            slim.arg_scope([slim.conv2d], **normalizer),
            tf.compat.v1.variable_scope(network.scope),
        ):
            layers = network.build(normalized, self.layer, self.layout)
        return {f"{self.backbone}/{name}": features for name, features in layers.items()}

    @property
    def structure(self) -> dict[str, Any]:
        """The layout, as plain JSON data."""
        return dataclasses.asdict(self.layout)

    def load(self, weights: str) -> LoadReport:
        """Copy weights into the built trunk: of a checkpoint, or a state dict of torchvision.

        Args:
            weights: see `checkpoints.load_by_name` and `loading.load_torch`.

        Returns:
            The report.

        Raises:
            ValueError: they do not fit, or cannot be read. Then no variable is changed.
        """
        path = Path(weights)
        if path.is_file() and weight_kind(path) in STATE_DICT:
            return load_torch(self.variables, weights, self.backbone, "v1.5")
        return load_by_name(self.variables, weights, self.backbone, ARCHITECTURES)

    def parameter_group(self, name: str) -> str:
        """Return the block of a variable, such as "block3"; "stem" for a ResNet's conv1."""
        group = name.split("/")[1]
        return "stem" if group == "conv1" and self.backbone.startswith("resnet") else group


def build(config: schema.Trunk) -> SlimTrunk:
    """Return the TF-Slim trunk of a recipe; UsageError if it is unknown."""
    name = f"{config.name}/{config.end_point}" if config.end_point else config.name
    return SlimTrunk(
        name,
        "slim" if config.layout == "auto" else config.layout,
        config.weight_decay,
        freeze_batch_norm=config.batch_norm == "inference",
        batch_norm_decay=config.batch_norm_decay,
    )
