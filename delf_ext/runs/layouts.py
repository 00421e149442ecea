"""Compare what the manifest says of a checkpoint with the trunk that is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from delf_ext.recipes.schema import Trunk
from pretrained.manifest import describe

DEFAULT_LAYOUT = "slim"


def with_layout(trunk: Trunk, checkpoint: str, log: Callable[[str], None]) -> Trunk:
    """Return the trunk with its layout decided: its own, else the one that the weights name, else TF-Slim's.

    Args:
        trunk: whose layout may be "auto".
        checkpoint: path of the weights; "" for random ones.
        log: called with a line when the layout is assumed.

    Raises:
        ValueError: when the weights are of another trunk or layout.
    """
    if trunk.source != "slim":
        return trunk
    decided = dataclasses.replace(
        trunk, layout=DEFAULT_LAYOUT if trunk.layout == "auto" else trunk.layout
    )
    if not checkpoint:
        return decided
    info = describe(checkpoint.removesuffix(".index"))
    if info is None:
        if trunk.layout == "auto" and trunk.name.startswith("resnet_v1"):
            log(
                f"{checkpoint}: nothing says which stride layout these weights have; assuming TF-Slim's (--layout changes it)."
            )
        return decided
    if info.backbone != trunk.name:
        raise ValueError(
            f"{checkpoint} holds {info.backbone}, not {trunk.name}: pass --resnet_type={info.backbone}/..."
        )
    if trunk.layout not in ("auto", info.layout):
        raise ValueError(
            f"{checkpoint} has layout {info.layout}, not {trunk.layout}: it would load and work badly. Leave --layout out."
        )
    return dataclasses.replace(trunk, layout=info.layout)
