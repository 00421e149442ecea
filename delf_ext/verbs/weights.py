"""What the manifest knows of a checkpoint, held against what the flags ask for."""

from __future__ import annotations

from pretrained.manifest import describe

DEFAULT_LAYOUT = "slim"


def resolve_layout(checkpoint: str | None, layout: str, endpoint: str) -> str:
    """The layout to build: the flag's, else the one that the weights say, else TF-Slim's, saying so.

    Raises: ValueError when the weights are of another backbone or layout than the flags.
    """
    if not checkpoint:
        return DEFAULT_LAYOUT if layout == "auto" else layout
    info = describe(checkpoint.removesuffix(".index"))
    if info is None:
        if layout == "auto" and endpoint.startswith("resnet_v1"):
            print(f"{checkpoint}: nothing says which stride layout these weights have; assuming TF-Slim's (--layout changes it).")
        return DEFAULT_LAYOUT if layout == "auto" else layout
    if info.backbone != endpoint.split("/")[0]:
        raise ValueError(
            f"{checkpoint} holds {info.backbone}, not {endpoint.split('/')[0]}: pass --resnet_type={info.backbone}/..."
        )
    if layout not in ("auto", info.layout):
        raise ValueError(
            f"{checkpoint} has layout {info.layout}, not {layout}: it would load and work badly. Leave --layout out."
        )
    return info.layout
