"""Read weight files of Keras and torchvision into tensors by name, without unpickling."""

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
    """Read the weights of a Keras weights file or of a saved model.

    Args:
        path: the .h5 file.

    Returns:
        `layer/weight` -> array.

    Raises:
        ValueError: the file cannot be read as HDF5.
    """
    import h5py

    tensors: Tensors = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            parts = name.split("/")
            weight = parts[-1].removesuffix(":0")
            tensors[f"{parts[0]}/{weight}"] = item[()]

    try:
        with h5py.File(path, "r") as file:
            file.get("model_weights", file).visititems(collect)
    except OSError as error:
        raise ValueError(f"not readable as HDF5 ({error})") from error
    return tensors


def read_state_dict(path: Path) -> Tensors:
    """Read a state dict of PyTorch from a .safetensors or .npz file.

    Args:
        path: .safetensors; another ending is read as .npz.

    Returns:
        Tensor name -> array.

    Raises:
        ValueError: the file is damaged or contains pickled objects.
    """
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    return _read_npz(path)


def _read_npz(path: Path) -> Tensors:
    try:
        # np.load would also read a single array, which is not a zip file.
        with zipfile.ZipFile(path):
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
