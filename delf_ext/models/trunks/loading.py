"""Copy weights of PyTorch, or of a Keras network, into the variables of a trunk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_io.finite import require_finite
from delf_ext.models.checkpoints import LoadReport
from pretrained.keras_layers import read_layers
from pretrained.torch_weights import read_network


def load_torch(
    variables: Sequence[tf.Variable], weights: str, network: str, layout: str
) -> LoadReport:
    """Copy weights of PyTorch.

    Args:
        variables: of a built trunk, with the names of `pretrained.torch_networks`.
        weights: name or path, see `read_network`.
        network: name of the trunk.
        layout: of the trunk; "auto" if its source has none.

    Returns:
        The report.

    Raises:
        ValueError: they are of another network or layout, or cannot be read. Then no variable is
            changed.
    """
    stored = read_network(weights)
    if stored is None or stored.network != network:
        raise ValueError(f"{weights}: does not hold {network}.")
    if stored.layout.split("_")[0] != layout.split("_")[0]:
        raise ValueError(f"{weights}: has the layout {stored.layout}, not {layout}.")
    by_name = {variable.name.split(":")[0]: variable for variable in variables}
    for name, variable in by_name.items():
        variable.assign(stored.tensors[name])
    return LoadReport(
        stored.title,
        matched=tuple(sorted(by_name)),
        missing=(),
        unused=(*sorted(set(stored.tensors) - set(by_name)), *stored.unused),
        shape_mismatch=(),
    )


def load_keras(
    in_order: Sequence[tuple[str, Sequence[tf.Variable], Sequence[tuple[int, ...]]]],
    weights: str,
    network: str,
) -> LoadReport:
    """Copy the weights of a Keras file, whose layers are in the order of the network.

    Layers behind those of the network, such as a classifier, are not used.

    Args:
        in_order: (layer, its variables in the trunk, the shapes of its weights), of the whole
            network; a layer without variables in the trunk is skipped.
        weights: path of the file.
        network: name of the trunk, for messages.

    Returns:
        The report.

    Raises:
        ValueError: the file is of another network or cannot be read. Then no variable is changed.
    """
    try:
        stored = read_layers(Path(weights))
    except ValueError as error:
        raise ValueError(f"{weights}: {str(error).rstrip('.')}.") from None
    inner = [one for one in stored if not _scales_input([value.shape for value in one[1]])]
    wanted = [one for one in in_order if not _scales_input(one[2])]
    values_of: dict[str, tuple[tf.Variable, np.ndarray]] = {}
    for number, (layer, variables, shapes) in enumerate(wanted):
        name, values = inner[number] if number < len(inner) else ("nothing", [])
        found = [value.shape for value in values]
        if found != list(shapes):
            raise ValueError(
                f"{weights}: does not hold {network}. Its layer {number + 1} is {name} "
                f"{_shown(found)}, expected {layer} {_shown(shapes)}."
            )
        for variable, value in zip(variables, values):
            values_of[variable.name.split(":")[0]] = (variable, value)
    require_finite(weights, {name: value for name, (_, value) in values_of.items()})
    for variable, value in values_of.values():
        # A depthwise kernel may be stored with one input channel of C groups: [h, w, 1, C].
        variable.assign(np.reshape(value, variable.shape))
    skipped = [layer for layer, variables, _ in wanted if not variables]
    return LoadReport(
        weights,
        matched=tuple(sorted(values_of)),
        missing=(),
        unused=(*skipped, *(name for name, _ in inner[len(wanted) :])),
        shape_mismatch=(),
    )


def _scales_input(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Return whether a layer is Keras' Normalization, which the trunk has not.

    Its weights are mean, variance and count; the names of other layers can be like its name.
    """
    return len(shapes) == 3 and shapes[-1] == ()


def _shown(shapes: Sequence[tuple[int, ...]]) -> str:
    return " ".join("x".join(map(str, shape)) for shape in shapes) or "without weights"
