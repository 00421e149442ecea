"""What TF-Slim, Keras and torchvision call the same layer of a ResNet-50."""

from __future__ import annotations

from collections.abc import Iterator

SCOPE = "resnet_v1_50"
UNITS = (3, 4, 6, 3)


def conv_scopes() -> Iterator[str]:
    """Every convolution's scope in TF-Slim's resnet_v1_50: conv1, then block, unit and conv1..conv3 or shortcut."""
    yield f"{SCOPE}/conv1"
    for block, units in enumerate(UNITS, start=1):
        for unit in range(1, units + 1):
            for conv in ("shortcut", "conv1", "conv2", "conv3")[unit > 1 :]:
                yield f"{SCOPE}/block{block}/unit_{unit}/bottleneck_v1/{conv}"


def _parse_scope(scope: str) -> tuple[int, int, int] | None:
    """block, unit and the convolution's number (0: shortcut), or None for conv1."""
    parts = scope.split("/")
    if len(parts) == 2:
        return None
    return int(parts[1][-1]), int(parts[2][-1]), 0 if parts[4] == "shortcut" else int(parts[4][-1])


def keras_layers(scope: str) -> tuple[str, str]:
    """Convolution and batch norm of a scope, as tf.keras.applications.ResNet50 names them."""
    where = _parse_scope(scope)
    stem = "conv1" if where is None else f"conv{where[0] + 1}_block{where[1]}_{where[2]}"
    return f"{stem}_conv", f"{stem}_bn"


def torch_modules(scope: str) -> tuple[str, str]:
    """Convolution and batch norm of a scope, as torchvision's resnet50 names them."""
    where = _parse_scope(scope)
    if where is None:
        return "conv1", "bn1"
    block, unit, conv = where
    unit_name = f"layer{block}.{unit - 1}"
    names = (f"conv{conv}", f"bn{conv}") if conv else ("downsample.0", "downsample.1")
    return f"{unit_name}.{names[0]}", f"{unit_name}.{names[1]}"


def kernel_shape(scope: str) -> tuple[int, int, int, int]:
    """Height, width, channels in and channels out of a scope's convolution."""
    where = _parse_scope(scope)
    if where is None:
        return 7, 7, 3, 64
    block, unit, conv = where
    inner = 64 * 2 ** (block - 1)
    entering = inner * 4 if unit > 1 else inner * 2 if block > 1 else 64
    shapes = {
        0: (1, 1, entering, inner * 4),
        1: (1, 1, entering, inner),
        2: (3, 3, inner, inner),
        3: (1, 1, inner, inner * 4),
    }
    return shapes[conv]
