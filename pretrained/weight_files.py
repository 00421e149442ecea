"""Read the state dict of a PyTorch network from a .pth, .npz or .safetensors file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_io.weight_kinds import weight_kind
from pretrained.torch_files import Tensors, numbers_of, read_torch

# Source: safetensors, README, "Format".
SAFETENSORS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "bfloat16",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
"""Type of a tensor in a .safetensors file -> numpy's dtype."""


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


def find_prefix(names: Iterable[str], anchor: str) -> str | None:
    """Return what a trainer put in front of all names of a network, such as "module.".

    Args:
        names: names of tensors.
        anchor: a name that the network has once.

    Returns:
        The prefix; None if no tensor has the name.

    Raises:
        ValueError: there are several such networks.
    """
    prefixes = sorted(
        name.removesuffix(anchor) for name in names if name == anchor or name.endswith(f".{anchor}")
    )
    if len(prefixes) > 1:
        raise ValueError(
            f"holds several networks, {' and '.join(prefixes)}. Save the one that you need."
        )
    return prefixes[0] if prefixes else None


def _read_npz(path: Path) -> Tensors:
    try:
        # np.load would also read a single array, which is not a zip file.
        with zipfile.ZipFile(path):
            pass
        with np.load(path, allow_pickle=False) as stored:
            tensors = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"not readable as .npz ({error})") from error
    for name, tensor in tensors.items():
        # NumPy stores bfloat16 as bytes without a meaning.
        if tensor.dtype.kind not in "fiub":
            raise ValueError(
                f"its tensor {name} is of type {tensor.dtype}, which is not read. Save it as "
                "float32"
            )
    return tensors


def _read_safetensors(path: Path) -> Tensors:
    try:
        from safetensors import SafetensorError, deserialize
    except ImportError:
        raise ValueError(
            "reading .safetensors needs the safetensors package: pip install safetensors"
        ) from None
    try:
        # Its own reader for NumPy refuses bfloat16.
        stored = deserialize(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"not a whole .safetensors file ({error}); fetch or copy it again"
        ) from error
    tensors = {}
    for name, tensor in stored:
        if tensor["dtype"] not in SAFETENSORS:
            raise ValueError(
                f"its tensor {name} is of type {tensor['dtype']}, which is not read. Save it as "
                "float32"
            )
        numbers = numbers_of(bytes(tensor["data"]), SAFETENSORS[tensor["dtype"]])
        tensors[name] = numbers.reshape(tensor["shape"])
    return tensors
