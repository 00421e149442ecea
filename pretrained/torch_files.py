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
from typing import IO, Any, ClassVar

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
# NumPy before version 2 crashes at 33 or more.
MAX_DIMENSIONS = 32
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
    shape, strides = tuple(shape), tuple(strides)
    numbers = (offset, *shape, *strides)
    is_known = isinstance(storage, _Storage) and len(shape) == len(strides) <= MAX_DIMENSIONS
    if not is_known or any(type(number) is not int or number < 0 for number in numbers):
        raise pickle.UnpicklingError("a tensor is of an unknown form")
    return _Tensor(storage, offset, shape, strides)


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
OPERATIONS: dict[int, Any] = pickle._Unpickler.dispatch  # type: ignore[attr-defined]
"""Code in a pickle -> what Python's unpickler does."""


# The unpickler of C fills memory up to any index that a damaged file names; this one does not.
class _TensorsOnly(pickle._Unpickler):  # type: ignore[name-defined]
    """The only reader of pickles of this project."""

    stack: list[Any]

    def load_build(self) -> None:
        """Set attributes of an OrderedDict, as PyTorch does; never of an allowed function."""
        if type(self.stack[-2]) is not OrderedDict or type(self.stack[-1]) is not dict:
            raise pickle.UnpicklingError("it sets attributes of something else than a dictionary")
        # Attributes such as the versions of modules are not needed.
        self.stack.pop()

    dispatch: ClassVar[dict[int, Any]] = {**OPERATIONS, pickle.BUILD[0]: load_build}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise ValueError(
                f"it holds more than tensors ({module}.{name}), which is not read. {SAVE_HINT}"
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise pickle.UnpicklingError("its storages are of an unknown form")
        if len(pid) > 5 and pid[5] is not None:
            raise ValueError(f"it shares storages as PyTorch before 0.4 did. {SAVE_HINT}")
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
    order = f"{folder}byteorder"
    _require_little_endian(order not in archive.namelist() or archive.read(order) != b"big")
    return content, lambda storage: numbers_of(
        archive.read(f"{folder}data/{storage.key}"), storage.dtype
    )


def _open_old(path: Path) -> tuple[Any, Read]:
    with open(path, "rb") as file:
        if _TensorsOnly(file).load() != MAGIC_NUMBER:
            raise ValueError(f"it is a pickle, but not of PyTorch. {SAVE_HINT}")
        _TensorsOnly(file).load()  # The version of the format.
        _require_little_endian(dict(_TensorsOnly(file).load()).get("little_endian", True))
        reader = _TensorsOnly(file)
        content = reader.load()
        keys = _TensorsOnly(file).load()
        dtypes = {storage.key: storage.dtype for storage in _storages(content, set())}
        stored = {str(key): _read_numbers(file, dtypes.get(str(key), "u1")) for key in keys}
    return content, lambda storage: stored[storage.key]


def _require_little_endian(is_little: bool) -> None:
    if not is_little:
        raise ValueError(f"its numbers are in big-endian order, which is not read. {SAVE_HINT}")


def _storages(content: Any, seen: set[int]) -> list[_Storage]:
    """Return the storages of all tensors; `seen` has the containers that were looked into."""
    if isinstance(content, _Tensor):
        return [content.storage]
    # A small file can hold the same container a billion times.
    if not isinstance(content, (Mapping, list, tuple)) or id(content) in seen:
        return []
    seen.add(id(content))
    parts = content.values() if isinstance(content, Mapping) else content
    return [storage for part in parts for storage in _storages(part, seen)]


def _read_numbers(file: IO[bytes], dtype: str) -> np.ndarray:
    count = int.from_bytes(file.read(8), "little")
    num_bytes = count * (2 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
    # Compare first: a damaged file may ask for more than the memory has.
    if num_bytes > os.fstat(file.fileno()).st_size - file.tell():
        raise EOFError("the file ends too early")
    content = file.read(num_bytes)
    return numbers_of(content, dtype)


def numbers_of(content: bytes, dtype: str) -> np.ndarray:
    """Return the numbers in a storage.

    Args:
        content: its bytes.
        dtype: a value of STORAGES.

    Returns:
        Array [n]; of float32 for bfloat16.

    Raises:
        ValueError: the type is unknown.
    """
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
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, numbers.dtype)
    # The step along a single row does not matter, and may be of any size.
    steps = [stride if size > 1 else 0 for size, stride in zip(tensor.shape, tensor.strides)]
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, steps))
    if math.prod(tensor.shape) > len(numbers) or last >= len(numbers):
        raise ValueError("a tensor is larger than its storage: the file is damaged")
    strides = [step * numbers.itemsize for step in steps]
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
