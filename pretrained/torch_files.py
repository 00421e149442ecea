"""Read the tensors of a PyTorch file (.pth) without running code from it.

A .pth file is a pickle, which can call any function. `_TensorsOnly` builds tensors, ordered
dictionaries and plain values, and refuses a file that names anything else.
"""

from __future__ import annotations

import math
import os
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

Tensors = dict[str, np.ndarray]

# Source: torch/serialization.py, MAGIC_NUMBER of files before version 1.6.
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
# torch's storage -> numpy's dtype; bfloat16 is the upper half of a float32.
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# Where trainers put the state dict; moving averages first.
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
STATE_DICTS = (*AVERAGES, "state_dict", "model_state_dict", "model", "net", "network", "weights")
DAMAGED = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError),
    *(IndexError, TypeError, AttributeError, AssertionError, OverflowError, struct.error),
    *(MemoryError, RuntimeError, UnicodeError),
)
SAVE_HINT = (
    "Save the state dict alone: torch.save(model.state_dict(), path), or "
    "numpy.savez(path, **{name: tensor.numpy() for name, tensor in model.state_dict().items()})"
)


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: _Tensor, *_: object) -> _Tensor:
    return tensor


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
}
"""Module and name in a pickle -> what is used for it. Everything else is refused."""


# The unpickler of C fills memory up to any index that a damaged file names; this one does not.
class _TensorsOnly(pickle._Unpickler):  # type: ignore[name-defined]
    """The only reader of pickles of this project."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise ValueError(
                f"it holds more than tensors ({module}.{name}), which is not read. {SAVE_HINT}"
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("its storages are of an unknown form")
        return _Storage(str(pid[1]), str(pid[2]))


def read_torch(path: Path) -> tuple[Tensors, str]:
    """Read a state dict from a .pth file of any version of PyTorch.

    Args:
        path: the file.

    Returns:
        Tensor name -> array; and the key under which the file has them, "" if at the top.

    Raises:
        ValueError: the file is damaged, or holds more than tensors and plain values.
    """
    try:
        if zipfile.is_zipfile(path):
            content, read = _open_zip(path)
        else:
            content, read = _open_old(path)
    # A damaged pickle raises almost any error.
    except DAMAGED as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"not a whole .pth file ({reason}); fetch or copy it again") from error
    state, key = _state_dict(content)
    return {name: _array(tensor, read) for name, tensor in state.items()}, key


Read = Callable[[_Storage], np.ndarray]
"""Storage -> its numbers [n]."""


def _open_zip(path: Path) -> tuple[Any, Read]:
    archive = zipfile.ZipFile(path)
    pickled = next((name for name in archive.namelist() if name.endswith("data.pkl")), "")
    with archive.open(pickled) as file:
        content = _TensorsOnly(file).load()
    folder = pickled.removesuffix("data.pkl")
    return content, lambda storage: _numbers(
        archive.read(f"{folder}data/{storage.key}"), storage.dtype
    )


def _open_old(path: Path) -> tuple[Any, Read]:
    with open(path, "rb") as file:
        if _TensorsOnly(file).load() != MAGIC_NUMBER:
            raise ValueError(f"it is a pickle, but not of PyTorch. {SAVE_HINT}")
        for _ in ("protocol version", "system"):
            _TensorsOnly(file).load()
        reader = _TensorsOnly(file)
        content = reader.load()
        keys = _TensorsOnly(file).load()
        dtypes = {storage.key: storage.dtype for storage in _storages(content)}
        stored = {str(key): _read_numbers(file, dtypes.get(str(key), "u1")) for key in keys}
    return content, lambda storage: stored[storage.key]


def _storages(content: Any) -> list[_Storage]:
    if isinstance(content, _Tensor):
        return [content.storage]
    parts = content.values() if isinstance(content, Mapping) else content
    if not isinstance(content, (Mapping, list, tuple)):
        return []
    return [storage for part in parts for storage in _storages(part)]


def _read_numbers(file: IO[bytes], dtype: str) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    num_bytes = count * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
    # Compare first: a damaged file may ask for more than the memory has.
    if num_bytes > os.fstat(file.fileno()).st_size - file.tell():
        raise EOFError("the file ends too early")
    content = file.read(num_bytes)
    return _numbers(content, dtype)


def _numbers(content: bytes, dtype: str) -> np.ndarray:
    if dtype not in STORAGES.values():
        raise ValueError(f"its numbers are of an unknown type ({dtype})")
    if dtype == "bfloat16":
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, dtype)


def _array(tensor: _Tensor, read: Read) -> np.ndarray:
    try:
        numbers = read(tensor.storage)
    except DAMAGED as error:
        raise ValueError(f"not a whole .pth file ({error}); fetch or copy it again") from error
    lengths = [(size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides)]
    is_inside = min(tensor.strides, default=0) >= 0 and tensor.offset >= 0
    is_inside = is_inside and math.prod(tensor.shape) <= len(numbers)
    if not is_inside or tensor.offset + sum(lengths) >= max(len(numbers), 1):
        if 0 not in tensor.shape:
            raise ValueError("a tensor is larger than its storage: the file is damaged")
        return np.zeros(tensor.shape, numbers.dtype)
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides)
    return view.copy()


def _state_dict(content: Any) -> tuple[dict[str, _Tensor], str]:
    """Return the tensors of a state dict, and the key under which a trainer saved it."""
    tried = [("", content)]
    if isinstance(content, Mapping):
        tried += [(key, content[key]) for key in STATE_DICTS if key in content]
    for key, part in tried:
        if not isinstance(part, Mapping):
            continue
        tensors = {str(name): one for name, one in part.items() if isinstance(one, _Tensor)}
        if tensors:
            return tensors, key
    raise ValueError(f"it has no tensors by name. {SAVE_HINT}")
