"""Map the names of layers of a ResNet v1 between TF-Slim, Keras and torchvision."""

from __future__ import annotations

from collections.abc import Iterator

from pretrained.torch_layers import NORM, Stored

SCOPE = "resnet_v1_50"
UNITS = {SCOPE: (3, 4, 6, 3), "resnet_v1_101": (3, 4, 23, 3)}
"""Network of TF-Slim -> number of units of each block."""
ANCHOR = "layer1.0.conv1.weight"
BODY = ("layer",)


def conv_scopes(network: str = SCOPE) -> Iterator[str]:
    """Yield the scope of each convolution of TF-Slim's network, in the order of the layers."""
    yield f"{network}/conv1"
    for block, units in enumerate(UNITS[network], start=1):
        for unit in range(1, units + 1):
            shortcut = ["shortcut"] if unit == 1 else []
            for conv in [*shortcut, "conv1", "conv2", "conv3"]:
                yield f"{network}/block{block}/unit_{unit}/bottleneck_v1/{conv}"


def _parse_scope(scope: str) -> tuple[int, int, int] | None:
    """Return block, unit and number of the convolution (0: shortcut); None for the first layer."""
    parts = scope.split("/")
    if len(parts) == 2:
        return None
    _, block, unit, _, conv = parts
    number = 0 if conv == "shortcut" else int(conv[-1])
    return int(block[-1]), int(unit.removeprefix("unit_")), number


def keras_layers(scope: str) -> tuple[str, str]:
    """Return the names of convolution and batch norm in tf.keras.applications.ResNet50."""
    parts = _parse_scope(scope)
    if parts is None:
        return "conv1_conv", "conv1_bn"
    block, unit, conv = parts
    name = f"conv{block + 1}_block{unit}_{conv}"
    return f"{name}_conv", f"{name}_bn"


def keras_layers_2017(scope: str) -> tuple[str, str]:
    """Return the names of convolution and batch norm in Keras' ResNet50 before 2018."""
    parts = _parse_scope(scope)
    if parts is None:
        return "conv1", "bn_conv1"
    block, unit, conv = parts
    branch = "1" if conv == 0 else f"2{'abc'[conv - 1]}"
    place = f"{block + 1}{'abcdef'[unit - 1]}_branch{branch}"
    return f"res{place}", f"bn{place}"


def keras_order() -> tuple[list[str], list[str]]:
    """Return the convolutions and the batch norms in the order of Keras' `model.layers`.

    Source: keras.applications.ResNet50; layers are sorted by depth, so a shortcut is beside conv3.
    """
    scopes: list[str] = []
    shortcut: list[str] = []
    for scope in conv_scopes():
        if scope.endswith("/shortcut"):
            shortcut = [scope]
            continue
        if scope.endswith("/conv3"):
            scopes += shortcut
            shortcut = []
        scopes.append(scope)
    pairs = [keras_layers(scope) for scope in scopes]
    return [conv for conv, _ in pairs], [norm for _, norm in pairs]


def torch_modules(scope: str) -> tuple[str, str]:
    """Return the names of convolution and batch norm in torchvision's ResNet."""
    parts = _parse_scope(scope)
    if parts is None:
        return "conv1", "bn1"
    block, unit, conv = parts
    unit_name = f"layer{block}.{unit - 1}"
    if conv == 0:
        return f"{unit_name}.downsample.0", f"{unit_name}.downsample.1"
    return f"{unit_name}.conv{conv}", f"{unit_name}.bn{conv}"


def kernel_shape(scope: str) -> tuple[int, int, int, int]:
    """Return the shape of a convolution's kernel: height, width, channels in, channels out."""
    parts = _parse_scope(scope)
    if parts is None:
        return 7, 7, 3, 64
    block, unit, conv = parts
    inner = 64 * 2 ** (block - 1)
    if unit > 1:
        channels_in = inner * 4
    elif block > 1:
        channels_in = inner * 2
    else:
        channels_in = 64
    shapes = {
        0: (1, 1, channels_in, inner * 4),
        1: (1, 1, channels_in, inner),
        2: (3, 3, inner, inner),
        3: (1, 1, inner, inner * 4),
    }
    return shapes[conv]


def torch_tensors(network: str) -> dict[str, Stored]:
    """Return the tensors of torchvision's network by TF-Slim's names of variables.

    Args:
        network: a key of UNITS.

    Returns:
        Variable -> tensor in a file, without the classifier.
    """
    tensors = {}
    for scope in conv_scopes(network):
        conv, norm = torch_modules(scope)
        height, width, inputs, outputs = kernel_shape(scope)
        shape = (outputs, inputs, height, width)
        tensors[f"{scope}/weights"] = Stored(f"{conv}.weight", shape)
        for ours, theirs in NORM.items():
            tensors[f"{scope}/BatchNorm/{ours}"] = Stored(f"{norm}.{theirs}", (outputs,))
    return tensors
