"""Read the weights of any Keras network, layer by layer, from a .h5 file as Keras publishes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SAVE_HINT = "Save the weights alone in Keras' older format: model.save_weights('weights.h5')"
Layers = list[tuple[str, list[np.ndarray]]]
"""(Name of a layer, its weights) in the order of the network."""


def read_layers(path: Path) -> Layers:
    """Read the layers that have weights. Nothing is unpickled.

    Args:
        path: a .h5 file, of weights or of a whole model.

    Returns:
        The layers.

    Raises:
        ValueError: the file is damaged, or of another format.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            if "layer_names" not in group.attrs:
                raise ValueError(f"it names no layers. {SAVE_HINT}")
            names = [_text(name) for name in group.attrs["layer_names"]]
            return [
                (name, [np.asarray(group[name][_text(one)]) for one in weights])
                for name in names
                if len(weights := group[name].attrs["weight_names"])
            ]
    except (OSError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"not a whole .h5 file ({error}); fetch or copy it again") from None


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
