"""Reads the weights files of others into tensors by name. Nothing is unpickled."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

Tensors = dict[str, np.ndarray]

PICKLE_HINT = (
    "A .pth file is a pickle and is not read: save its state dict with "
    "numpy.savez(path, **{name: tensor.numpy() for name, tensor in model.state_dict().items()})."
)


def read_h5(path: Path) -> Tensors:
    """`layer/weight` -> array, from a Keras weights file or a whole saved model. Raises: ValueError when it is neither."""
    import h5py

    found: Tensors = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            parts = name.split("/")
            found[f"{parts[0]}/{parts[-1].removesuffix(':0')}"] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.get("model_weights", file).visititems(collect)
    except OSError as error:
        raise ValueError(f"not readable as HDF5 ({error})") from error
    return found


def read_state_dict(path: Path) -> Tensors:
    """Tensor name -> array, from .safetensors or .npz. Raises: ValueError when it is damaged or holds pickled objects."""
    return _read_safetensors(path) if path.suffix.lower() == ".safetensors" else _read_npz(path)


def _read_npz(path: Path) -> Tensors:
    try:
        with zipfile.ZipFile(path):  # a bare array or a pickle is no .npz, whatever its name
            pass
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"not readable as .npz ({error}). {PICKLE_HINT}") from error


def _read_safetensors(path: Path) -> Tensors:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError:
        raise ValueError(
            "reading .safetensors needs the safetensors package: pip install safetensors"
        ) from None
    try:
        return load_file(path)
    except (OSError, SafetensorError, TypeError, KeyError) as error:
        raise ValueError(f"not readable as .safetensors ({error})") from error
