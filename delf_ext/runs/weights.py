"""Find the weights of a trunk, decide its stride layout, and compare both with the recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from data_io.checkpoint_paths import find_checkpoint, require_checkpoint
from data_io.progress import quiet
from data_io.weight_kinds import STATE_DICT, weight_kind
from delf_ext.recipes.schema import Trunk
from delf_ext.recipes.trunk_names import LITE
from pretrained.lite_names import KNOWN, SCHEMES
from pretrained.lite_weights import package_file, read_lite
from pretrained.manifest import describe

DEFAULT_LAYOUT = "slim"


def locate_weights(weights: str, log: Callable[[str], None]) -> str:
    """Find weights of any kind.

    Args:
        weights: a key of LITE, the path of an EfficientNet-Lite of PyTorch, or of a checkpoint.
        log: called with one line if another path than `weights` is meant.

    Returns:
        The same name, or the path of the file or checkpoint.

    Raises:
        ValueError: there are no such weights, or they cannot be read.
    """
    return weights if lite_network(weights) else str(find_checkpoint(weights, log))


def lite_network(weights: str) -> str:
    """Return the network of weights of an EfficientNet-Lite, such as "efficientnet_lite0".

    Args:
        weights: a key of LITE, or a path.

    Returns:
        The network; "" if the weights are of another kind, or there are none.

    Raises:
        ValueError: a file of PyTorch is damaged, or a package is missing.
    """
    if weights in LITE:
        package_file(weights)
        return LITE[weights]
    stored = read_lite(weights)
    return "" if stored is None else stored.network


def find_weights(trunk: Trunk, weights: str, log: Callable[[str], None]) -> tuple[Trunk, str]:
    """Find the weights of a trunk, and the trunk's layout.

    Args:
        trunk: its layout may be "auto".
        weights: a key of LITE or a path; "" for random weights.
        log: called with each line of the result.

    Returns:
        The trunk with its layout, and the name or path of the weights.

    Raises:
        ValueError: there are no such weights, or they are of another trunk or layout.
    """
    network = lite_network(weights)
    if network:
        if network != trunk.name:
            raise ValueError(
                f"{weights}: holds {network}, not {trunk.name}. Pass --resnet_type={network}; with "
                f"--recipe instead --set model.trunk.source=lite --set model.trunk.name={network} "
                "--set model.trunk.end_point=head."
            )
        return trunk, weights
    if weights and trunk.source == "lite":
        raise ValueError(f"{weights}: {_why_not_lite(weights)}.")
    if weights:
        weights = str(find_checkpoint(weights, log))
    return with_layout(trunk, weights, log), weights


def _why_not_lite(weights: str) -> str:
    """Return why weights are not those of an EfficientNet-Lite, and what to do.

    Raises:
        ValueError: there are no weights of any kind.
    """
    path = Path(weights)
    if path.is_file() and weight_kind(path) in STATE_DICT:
        return f"holds another network: it has no tensor {' or '.join(SCHEMES)}. {KNOWN}"
    find_checkpoint(path, quiet)
    return f"is a TensorFlow checkpoint, which holds no EfficientNet-Lite. {KNOWN}"


def with_layout(trunk: Trunk, checkpoint: str, log: Callable[[str], None]) -> Trunk:
    """Replace the layout "auto" of a trunk by the layout of its weights.

    Args:
        trunk: its layout may be "auto".
        checkpoint: path of the weights; "" for random ones.
        log: called with one line if the layout of the weights is unknown and TF-Slim's is assumed.

    Returns:
        The trunk with a layout other than "auto", unless its source has no layouts.

    Raises:
        ValueError: there is no such checkpoint, or the weights are of another trunk or layout.
    """
    if trunk.source != "slim":
        return trunk
    layout = DEFAULT_LAYOUT if trunk.layout == "auto" else trunk.layout
    if not checkpoint:
        return dataclasses.replace(trunk, layout=layout)
    info = describe(checkpoint.removesuffix(".index"))
    if info is None:
        require_checkpoint(Path(checkpoint.removesuffix(".index")))
        if trunk.layout == "auto" and trunk.name.startswith("resnet_v1"):
            log(
                f"{checkpoint}: the stride layout of these weights is unknown; "
                "assuming TF-Slim's. Pass --layout to change it."
            )
        return dataclasses.replace(trunk, layout=layout)
    if info.backbone != trunk.name:
        raise ValueError(
            f"{checkpoint} holds {info.backbone}, not {trunk.name}: "
            f"pass --resnet_type={info.backbone}/..."
        )
    if trunk.layout not in ("auto", info.layout):
        raise ValueError(
            f"{checkpoint} has layout {info.layout}, not {trunk.layout}: the weights would load, "
            "but the embeddings would be bad. Leave --layout out."
        )
    return dataclasses.replace(trunk, layout=info.layout)
