"""Find the weights of a trunk, decide its stride layout, and compare both with the recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from data_io.checkpoint_paths import find_checkpoint, require_checkpoint
from delf_ext.config import UsageError
from delf_ext.recipes.schema import Trunk
from delf_ext.recipes.trunk_names import LITE
from pretrained.lite_names import is_state_dict
from pretrained.manifest import describe

DEFAULT_LAYOUT = "slim"


def find_weights(trunk: Trunk, weights: str, log: Callable[[str], None]) -> tuple[Trunk, str]:
    """Find the weights of a trunk, and the trunk's layout.

    Args:
        trunk: its layout may be "auto".
        weights: path of a checkpoint; for a trunk of source "lite" also a key of LITE, or a file
            of PyTorch.
        log: called with each line of the result.

    Returns:
        The trunk with its layout, and the path or name of the weights.

    Raises:
        UsageError: the weights are of another trunk.
        ValueError: there are no such weights, or they are of another trunk or layout.
    """
    if weights in LITE and LITE[weights] != trunk.name:
        raise UsageError(
            f"the weights {weights} are of {LITE[weights]}, not of {trunk.name}: "
            f"pass --resnet_type={weights}."
        )
    if trunk.source == "lite" and is_state_dict(weights):
        return trunk, weights
    path = str(find_checkpoint(weights, log))
    return with_layout(trunk, path, log), path


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
