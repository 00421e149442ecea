"""Define a layer of a PyTorch network, with the names and shapes of its tensors in a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
"""Variable of our batch norms -> its name in a file."""
KERNELS = {"conv": "kernel", "depthwise": "depthwise_kernel"}
"""Kind of a convolution -> our variable."""


class TorchLayer(NamedTuple):
    """Layer with weights.

    Attributes:
        name: ours, such as "block1/unit_1/conv1".
        module: its name in a file.
        kind: what it is.
        shape: of its weight in PyTorch: [out, in, h, w], or [channels].
        has_bias: a convolution with a bias.
    """

    name: str
    module: str
    kind: Literal["conv", "depthwise", "norm"]
    shape: tuple[int, ...]
    has_bias: bool = False


class Stored(NamedTuple):
    """Tensor in a file.

    Attributes:
        name: in the file.
        shape: in the file.
    """

    name: str
    shape: tuple[int, ...]


def tensors_of(layer: TorchLayer) -> Iterator[tuple[str, Stored]]:
    """Yield our name of each variable of a layer, and the tensor in a file."""
    if layer.kind == "norm":
        for ours, theirs in NORM.items():
            yield f"{layer.name}/{ours}", Stored(f"{layer.module}.{theirs}", layer.shape)
        return
    yield f"{layer.name}/{KERNELS[layer.kind]}", Stored(f"{layer.module}.weight", layer.shape)
    if layer.has_bias:
        yield f"{layer.name}/bias", Stored(f"{layer.module}.bias", layer.shape[:1])
