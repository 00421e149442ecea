"""List the networks of the trunk sources `keras` and `zoo`, without importing TensorFlow.

`keras` are the networks of tf.keras.applications, and those of torchvision and timm in PyTorch's
layout. `zoo` are networks of the package keras-cv-attention-models (the extra `zoo`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from pretrained.densenet_networks import DENSENETS
from pretrained.mobile_networks import LAYOUTS, MOBILENETS

KERAS_FILES = "https://storage.googleapis.com/tensorflow/keras-applications"
ZOO_FILES = "https://github.com/leondgarse/keras_cv_attention_models/releases/download"
NOISY_STUDENT = (
    "https://github.com/leondgarse/keras_efficientnet_v2/releases/download/effnetv1_pretrained"
)
TORCHVISION_FILES = "https://download.pytorch.org/models"
OUTPUT = ""
"""Place of the network's last feature map."""


class Network(NamedTuple):
    """One network: its parts, and the files of its published weights.

    Attributes:
        source: "keras" or "zoo".
        constructor: its function in tf.keras.applications, or "MODULE.FUNCTION" of the zoo; "" if
            Keras lacks it.
        scaling: input of the Keras layout, a key of SCALINGS.
        end_points: name -> where the feature map is in the Keras network, from the image on: the
            output of a layer, the input of a layer ("<LAYER"), or OUTPUT.
        local: the end point for local features if none is named: the last one of stride 16.
        files: what `--pretrained_model` takes for it: addresses or names of published files.
        size_px: side of the images that it was trained on.
        built_px: side that Keras must be given to connect the layers, even at each stride; None
            = none. The trunk takes any size.
    """

    source: Literal["keras", "zoo"]
    constructor: str
    scaling: str
    end_points: Mapping[str, str]
    local: str
    files: tuple[str, ...]
    size_px: int = 224
    built_px: int | None = None


class Scaling(NamedTuple):
    """Input of a network: (RGB in 0..255 - mean) / deviation.

    Attributes:
        mean: of each channel.
        deviation: of each channel.
        is_bgr: the channels are in the order BGR behind it.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    is_bgr: bool = False


# Sources: torchvision; keras/applications/{imagenet_utils,efficientnet}.py.
_TORCH_MEAN = (123.675, 116.28, 103.53)
SCALINGS = {
    "torch": Scaling(_TORCH_MEAN, (255 * 0.229, 255 * 0.224, 255 * 0.225)),
    "tf": Scaling((127.5,) * 3, (127.5,) * 3),
    "tf_128": Scaling((128.0,) * 3, (128.0,) * 3),
    "caffe": Scaling((123.68, 116.779, 103.939), (1.0, 1.0, 1.0), is_bgr=True),
    # The published EfficientNets divide by the deviation (as a layer of the file does, whose
    # variance is deviation ** 2), and then by its square root.
    "efficientnet": Scaling(_TORCH_MEAN, (255 * 0.229**1.5, 255 * 0.224**1.5, 255 * 0.225**1.5)),
}
"""Name -> input. ResNet has Caffe's in Keras, DenseNet PyTorch's, most others pixels in -1..1."""


def _densenet(number: int) -> Network:
    # The last feature map is behind the last batch norm and ReLU, where features are used.
    return Network(
        "keras",
        "" if number == 161 else f"DenseNet{number}",
        "torch",
        {
            "stem": "pool1",
            "block1": "<pool2_bn",
            "block2": "<pool3_bn",
            "block3": "<pool4_bn",
            "block4": OUTPUT,
        },
        "block3",
        (
            f"{TORCHVISION_FILES}/densenet{number}-{DENSENET_FILES[number]}.pth",
            *_keras_files(
                [] if number == 161 else ["densenet"],
                f"densenet{number}_weights_tf_dim_ordering_tf_kernels_notop.h5",
            ),
        ),
    )


DENSENET_FILES = {121: "a639ec97", 161: "8d451a50", 169: "b2777c0a", 201: "c1103571"}


def _keras_files(folders: Iterable[str], name: str) -> tuple[str, ...]:
    return tuple(f"{KERAS_FILES}/{folder}/{name}" for folder in folders)


def _resnet(depth: int, units: tuple[int, int, int, int]) -> Network:
    ends = {f"block{n}": f"conv{n + 1}_block{count}_out" for n, count in enumerate(units, start=1)}
    name = f"resnet{depth}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return Network(
        "keras",
        f"ResNet{depth}",
        "caffe",
        {"stem": "pool1_pool", **ends},
        "block3",
        _keras_files(["resnet"], name),
    )


def _resnet_v2(depth: int) -> Network:
    ends = {f"block{n}": f"<conv{n + 2}_block1_preact_bn" for n in range(1, 4)}
    name = f"resnet{depth}v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
    return Network(
        "keras",
        f"ResNet{depth}V2",
        "tf",
        {"stem": "pool1_pool", **ends, "block4": OUTPUT},
        # Its last unit of a block has the stride, as in TF-Slim: block1 has stride 8.
        "block2",
        _keras_files(["resnet"], name),
    )


EFFICIENTNET_PX = (224, 240, 260, 300, 380, 456, 528, 600)


def _efficientnet(number: int) -> Network:
    torch = {
        0: ("efficientnet_b0_rwightman-7f5810bc.pth",),
        1: ("efficientnet_b1_rwightman-bac287d4.pth", "efficientnet_b1-c27df63c.pth"),
    }.get(number, ())
    timm = (f"timm's efficientnet_b{number} and tf_efficientnet_b{number}",) if torch else ()
    return Network(
        "keras",
        f"EfficientNetB{number}",
        "efficientnet",
        {
            "block1": "<block2a_expand_conv",
            "block2": "<block3a_expand_conv",
            "block3": "<block4a_expand_conv",
            "block5": "<block6a_expand_conv",
            "block7": "<top_conv",
            "head": OUTPUT,
        },
        "block5",
        (
            *(f"{TORCHVISION_FILES}/{name}" for name in torch),
            *timm,
            f"https://storage.googleapis.com/keras-applications/efficientnetb{number}_notop.h5",
        ),
        EFFICIENTNET_PX[number],
    )


EFFICIENTNET_V2 = {"B0": 224, "B1": 240, "B2": 260, "B3": 300, "S": 384, "M": 480, "L": 480}


def _efficientnet_v2(kind: str) -> Network:
    return Network(
        "keras",
        f"EfficientNetV2{kind}",
        "torch" if kind.startswith("B") else "tf_128",
        {
            "block1": "<block2a_expand_conv",
            "block2": "<block3a_expand_conv",
            "block3": "<block4a_expand_conv",
            "block5": "<block6a_expand_conv",
            "block7" if kind in "ML" else "block6": "<top_conv",
            "head": OUTPUT,
        },
        "block5",
        _keras_files(["efficientnet_v2"], f"efficientnetv2-{kind.lower()}_notop.h5"),
        EFFICIENTNET_V2[kind],
    )


def _convnext(kind: str) -> Network:
    name = f"convnext_{kind.lower()}"
    ends = {f"block{n + 1}": f"<{name}_downsampling_block_{n}" for n in range(3)}
    return Network(
        "keras",
        f"ConvNeXt{kind}",
        "torch",
        {**ends, "block4": OUTPUT},
        "block3",
        _keras_files(["convnext"], f"{name}_notop.h5"),
    )


def _nasnet(kind: str, cells: int, size_px: int) -> Network:
    return Network(
        "keras",
        f"NASNet{kind}",
        "tf",
        {
            "block1": f"normal_concat_{cells - 1}",
            "block2": f"normal_concat_{2 * cells}",
            "block3": OUTPUT,
        },
        "block2",
        _keras_files(["nasnet"], f"NASNet-{kind.lower()}-no-top.h5"),
        size_px,
        # It halves the feature map of the cell before only where it knows that the sides differ.
        257,
    )


def _mobilenet_v3(kind: str, ends: Mapping[str, str], files: tuple[str, ...]) -> Network:
    name = f"weights_mobilenet_v3_{kind.lower()}_224_1.0_float_no_top_v2.h5"
    return Network(
        "keras",
        f"MobileNetV3{kind}",
        "tf",
        {**ends, "head": OUTPUT},
        "block5" if kind == "Large" else "block4",
        (*files, *_keras_files(["mobilenet_v3"], name)),
    )


# At odd sides its strides pad as `SAME`, as in TF-Slim; Keras' own map has a row less there.
_MOBILENET = Network(
    "keras",
    "MobileNet",
    "tf",
    {f"block{number}": f"conv_pw_{number}_relu" for number in (1, 3, 5, 11, 13)},
    "block11",
    _keras_files(["mobilenet"], "mobilenet_1_0_224_tf_no_top.h5"),
)
_MOBILENET_V2 = Network(
    "keras",
    "MobileNetV2",
    "tf",
    {
        "block1": "<block_1_expand",
        "block2": "<block_3_expand",
        "block3": "<block_6_expand",
        "block5": "<block_13_expand",
        "block7": "<Conv_1",
        "head": OUTPUT,
    },
    "block5",
    (
        f"{TORCHVISION_FILES}/mobilenet_v2-b0353104.pth",
        f"{TORCHVISION_FILES}/mobilenet_v2-7ebf99e0.pth",
        "timm's mobilenetv2_100",
        *_keras_files(
            ["mobilenet_v2"], "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
        ),
    ),
)
_INCEPTION_V3 = Network(
    "keras",
    "InceptionV3",
    "tf",
    {"mixed2": "mixed2", "mixed7": "mixed7", "mixed10": OUTPUT},
    "mixed7",
    _keras_files(["inception_v3"], "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    299,
)
_XCEPTION = Network(
    "keras",
    "Xception",
    "tf",
    {
        "block1": "block1_conv2_act",
        "block2": "<block3_sepconv1_act",
        "block3": "<block4_sepconv1_act",
        "block12": "<block13_sepconv1_act",
        "block14": OUTPUT,
    },
    "block12",
    _keras_files(["xception"], "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    299,
)
_V3_LARGE = {
    "block1": "<expanded_conv_1/expand",
    "block2": "<expanded_conv_3/expand",
    "block3": "<expanded_conv_6/expand",
    "block5": "<expanded_conv_12/expand",
    "block6": "<Conv_1",
}
_V3_SMALL = {
    "block1": "<expanded_conv_1/expand",
    "block2": "<expanded_conv_3/expand",
    "block4": "<expanded_conv_8/expand",
    "block5": "<Conv_1",
}
_V3_TORCH = (
    f"{TORCHVISION_FILES}/mobilenet_v3_large-8738ca79.pth",
    f"{TORCHVISION_FILES}/mobilenet_v3_large-5c1a4163.pth",
    "timm's mobilenetv3_large_100 and tf_mobilenetv3_large_100",
)
_KERAS = (
    *(_densenet(number) for number in (121, 161, 169, 201)),
    _resnet(50, (3, 4, 6, 3)),
    _resnet(101, (3, 4, 23, 3)),
    _resnet(152, (3, 8, 36, 3)),
    *(_resnet_v2(depth) for depth in (50, 101, 152)),
    *(_efficientnet(number) for number in range(8)),
    *(_efficientnet_v2(kind) for kind in EFFICIENTNET_V2),
    *(_convnext(kind) for kind in ("Tiny", "Small", "Base", "Large")),
    _nasnet("Mobile", 4, 224),
    _nasnet("Large", 6, 331),
    _MOBILENET,
    _MOBILENET_V2,
    _mobilenet_v3("Large", _V3_LARGE, _V3_TORCH),
    _mobilenet_v3("Small", _V3_SMALL, ()),
    _INCEPTION_V3,
    _XCEPTION,
)
_ZOO = {
    "nfnetf0": Network(
        "zoo",
        "nfnets.NFNetF0",
        "torch",
        {
            "block1": "<stack2_block1_preact_gelu",
            "block2": "<stack3_block1_preact_gelu",
            "block3": "<stack4_block1_preact_gelu",
            "block4": OUTPUT,
        },
        "block3",
        (f"{ZOO_FILES}/nfnets/nfnetf0_imagenet.h5",),
        256,
    ),
    "efficientnetv1b1": Network(
        "zoo",
        "efficientnet.EfficientNetV1B1",
        "torch",
        {
            "block1": "<stack_1_block0_sortcut_conv",
            "block2": "<stack_2_block0_sortcut_conv",
            "block3": "<stack_3_block0_sortcut_conv",
            "block5": "<stack_5_block0_sortcut_conv",
            "block7": "<post_conv",
            "head": OUTPUT,
        },
        "block5",
        (f"{NOISY_STUDENT}/efficientnetv1-b1-noisy_student.h5",),
        240,
    ),
}
NETWORKS: dict[str, Network] = {
    **{(one.constructor.lower() or "densenet161"): one for one in _KERAS},
    **_ZOO,
}
"""Name of a trunk, as --resnet_type takes it -> its network."""


def layouts_of(network: str) -> tuple[str, ...]:
    """Return the layouts of a network, the one that is used without weights first.

    Args:
        network: a key of NETWORKS.

    Returns:
        "keras", and those of PyTorch that weights can have.
    """
    keras = ("keras",) if NETWORKS[network].constructor else ()
    if network in DENSENETS:
        return (*keras, "torchvision")
    return (*keras, *LAYOUTS) if network in MOBILENETS else keras


def default_end_point(network: str) -> str:
    """Return the last end point of a network of NETWORKS."""
    return list(NETWORKS[network].end_points)[-1]


def expected_weights(network: str) -> str:
    """Return which files of weights a network takes, for messages.

    Args:
        network: a key of NETWORKS.

    Returns:
        One sentence without a full stop.
    """
    return f"{network} takes {' or '.join(NETWORKS[network].files)}"
