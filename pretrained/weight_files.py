"""Read the state dict of a PyTorch network from a .pth, .npz or .safetensors file."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from data_io.weight_kinds import weight_kind
from pretrained.torch_files import Tensors, read_torch


def read_state_dict(path: Path) -> tuple[Tensors, str]:
    """Read a state dict; the content of the file decides what it is, not its ending.

    Args:
        path: the file.

    Returns:
        Tensor name -> array; and the key under which the file has them, "" if at the top.

    Raises:
        ValueError: the file is damaged or contains pickled objects.
    """
    kind = weight_kind(path)
    if kind == "torch":
        return read_torch(path)
    if kind == "safetensors" or path.suffix.lower() == ".safetensors":
        return _read_safetensors(path), ""
    return _read_npz(path), ""


def _read_npz(path: Path) -> Tensors:
    try:
        # np.load would also read a single array, which is not a zip file.
        with zipfile.ZipFile(path):
            pass
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"not readable as .npz ({error})") from error


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
