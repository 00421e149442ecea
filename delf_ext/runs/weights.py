"""Find the weights of a trunk, decide its stride layout, and compare both with the recipe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from data_io.checkpoint_paths import find_checkpoint, require_checkpoint
from data_io.progress import quiet
from data_io.weight_kinds import STATE_DICT, weight_kind
from delf_ext.recipes.schema import Trunk
from delf_ext.recipes.trunk_names import LITE
from pretrained.keras_networks import NETWORKS, default_end_point, expected_weights, layouts_of
from pretrained.lite_names import KNOWN
from pretrained.lite_weights import package_file
from pretrained.manifest import describe
from pretrained.torch_weights import read_network

DEFAULT_LAYOUT = "slim"


class Known(NamedTuple):
    """Trunk that weights are of.

    Attributes:
        source: such as "keras".
        network: such as "densenet161".
        layout: "auto" if the source has no layouts.
    """

    source: str
    network: str
    layout: str = "auto"


def locate_weights(weights: str, log: Callable[[str], None]) -> str:
    """Find weights of any kind.

    Args:
        weights: a key of LITE, the path of a state dict of PyTorch or of a file of Keras, or of a
            checkpoint.
        log: called with one line if another path than `weights` is meant.

    Returns:
        The same name, or the path of the file or checkpoint.

    Raises:
        ValueError: there are no such weights, or they cannot be read.
    """
    if known_trunk(weights) or _is_keras(weights):
        return weights
    return str(find_checkpoint(weights, log))


def known_trunk(weights: str) -> Known | None:
    """Return the trunk that weights are of, if they say it themselves.

    Args:
        weights: a key of LITE, or a path.

    Returns:
        The trunk; None if the weights are of another kind, or there are none.

    Raises:
        ValueError: a file of PyTorch is damaged or nearly of a known network, or a package is
            missing.
    """
    if weights in LITE:
        package_file(weights)
        return Known("lite", LITE[weights])
    stored = read_network(weights)
    return None if stored is None else Known(stored.source, stored.network, stored.layout)


def _is_keras(weights: str) -> bool:
    path = Path(weights)
    return path.is_file() and weight_kind(path) == "keras"


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
    known = known_trunk(weights) if weights else None
    if known is not None:
        if (known.source, known.network) != (trunk.source, trunk.name):
            raise ValueError(f"{weights}: {_another_trunk(known, trunk)}")
        return _in_layout(trunk, known.layout, weights, log), weights
    if trunk.source == "lite" and weights:
        raise ValueError(f"{weights}: {_why_not_known(weights, 'EfficientNet-Lite')}. {KNOWN}.")
    if trunk.source in ("keras", "zoo"):
        return _of_keras(trunk, weights, log)
    if weights:
        weights = str(find_checkpoint(weights, log))
    return with_layout(trunk, weights, log), weights


def _another_trunk(known: Known, trunk: Trunk) -> str:
    """Return that weights are of another trunk, and how to name it."""
    end_point = {"lite": "head", "slim": "block4"}.get(known.source)
    end_point = end_point or default_end_point(known.network)
    settings = {"source": known.source, "name": known.network, "end_point": end_point}
    given = " ".join(f"--set model.trunk.{key}={value}" for key, value in settings.items())
    return (
        f"holds {known.network}, not {trunk.name}. Pass --resnet_type={known.network}; with "
        f"--recipe instead {given}."
    )


def _in_layout(trunk: Trunk, layout: str, weights: str, log: Callable[[str], None]) -> Trunk:
    """Return a trunk in the layout of its weights.

    Raises:
        ValueError: the recipe names another layout.
    """
    if layout == "timm" and trunk.layout == "timm_tf":
        layout = "timm_tf"
    if trunk.layout not in ("auto", layout):
        raise ValueError(
            f"{weights} has layout {layout}, not {trunk.layout}: the weights would load, but the "
            "embeddings would be bad. Leave --layout out."
        )
    if layout == "timm" and trunk.layout == "auto":
        log(
            f"{weights}: taken for timm's {trunk.name} without tf_ (its padding and input differ "
            "from the tf_ network of the same name). If it is of the tf_ network, pass "
            "--layout=timm_tf."
        )
    return dataclasses.replace(trunk, layout=layout)


def _of_keras(trunk: Trunk, weights: str, log: Callable[[str], None]) -> tuple[Trunk, str]:
    """Return a trunk of Keras or the zoo with its layout; random weights or a Keras file.

    Raises:
        ValueError: there are no such weights, or they are of another kind.
    """
    if trunk.name not in NETWORKS:
        # Building it names the known ones.
        return trunk, weights
    expected = expected_weights(trunk.name)
    if not weights:
        log(f"no pretrained weights: {expected} (--pretrained_model)")
        return trunk, weights
    if not Path(weights).is_file():
        raise ValueError(f"{weights}: no such file; {expected}.")
    has_layout = "keras" in layouts_of(trunk.name)
    if not (_is_keras(weights) and has_layout):
        raise ValueError(f"{weights}: {_why_not_known(weights, trunk.name)}; {expected}.")
    if trunk.source == "zoo":
        return trunk, weights
    return _in_layout(trunk, "keras", weights, log), weights


def _why_not_known(weights: str, network: str) -> str:
    """Return why weights are not those of a network.

    Raises:
        ValueError: there are no weights of any kind.
    """
    path = Path(weights)
    kind = weight_kind(path) if path.is_file() else ""
    if kind in STATE_DICT:
        return "holds another network"
    if kind == "keras":
        return f"is a file of Keras, which holds no {network} for this trunk"
    find_checkpoint(path, quiet)
    return f"is a TensorFlow checkpoint, which holds no {network}"


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
