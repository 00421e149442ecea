"""Read the weights of a known PyTorch network: from a file, or a package of the extra `lite`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from data_io.finite import require_finite
from data_io.weight_kinds import STATE_DICT, weight_kind
from pretrained.densenet_networks import present_name
from pretrained.lite_weights import PACKAGES, REINSTALL, package_file, title_of
from pretrained.torch_files import Tensors
from pretrained.torch_networks import Found, find_network, in_our_layout
from pretrained.weight_files import read_state_dict

TF_PREFIX = "tf_"
"""What timm's names of networks that came from TensorFlow begin with."""


class TorchWeights(NamedTuple):
    """Weights of a known network.

    Attributes:
        title: for messages: the name and its package, or the path.
        source: of our trunk, such as "keras".
        network: name of our trunk, such as "densenet161".
        layout: of our trunk; "auto" if its source has no layouts.
        tensors: variable of our trunk -> array.
        unused: other names in the file, such as those of the classifier.
    """

    title: str
    source: str
    network: str
    layout: str
    tensors: Tensors
    unused: tuple[str, ...]


def read_network(weights: str) -> TorchWeights | None:
    """Read the weights of a known network.

    Args:
        weights: a key of PACKAGES, or the path of a state dict (.pth, .safetensors, .npz).

    Returns:
        The weights; None if there is no state dict at the path, or one of an unknown network.

    Raises:
        ValueError: a package or file is missing or damaged, it is nearly a known network, or it
            has numbers that are not finite.
    """
    is_package = weights in PACKAGES
    path = package_file(weights) if is_package else Path(weights)
    if not is_package and not (path.is_file() and weight_kind(path) in STATE_DICT):
        return None
    title = title_of(weights)
    if is_package and weight_kind(path) not in STATE_DICT:
        raise ValueError(f"{title}: {path.name} is not a file of PyTorch: {REINSTALL}.")
    try:
        stored, _ = read_state_dict(path)
        state = {present_name(name): values for name, values in stored.items()}
        found = find_network(state)
    except ValueError as error:
        reason = str(error).rstrip(".")
        remedy = f" ({REINSTALL})" if is_package else ""
        raise ValueError(f"{title}: {reason}{remedy}.") from None
    network = "" if found is None else found.network.name
    if is_package and network != f"efficientnet_{weights}":
        held = network or "no EfficientNet-Lite"
        raise ValueError(f"{title}: holds {held}, not efficientnet_{weights}: {REINSTALL}.")
    if found is None:
        return None
    require_finite(title, {name: state[name] for name in found.names.values()})
    return TorchWeights(
        title,
        found.network.source,
        network,
        _layout(found, path),
        in_our_layout(found, state),
        found.unused,
    )


def _layout(found: Found, path: Path) -> str:
    """Return the layout; of timm's networks, the name of the file or its folder decides."""
    layout = found.network.layout
    is_tf = path.name.startswith(TF_PREFIX) or path.absolute().parent.name.startswith(TF_PREFIX)
    return "timm_tf" if layout == "timm" and is_tf else layout
