"""Read .pth files, which a stand-in for torch writes here, and refuse those that name more."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pretrained.torch_files import ALLOWED, MAGIC_NUMBER, read_torch

STORAGE_OF = {"f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage"}


class FakeTensor:
    """Tensor that is pickled as torch does it."""

    def __init__(self, values: np.ndarray, key: str, view: tuple | None = None) -> None:
        self.values = values
        self.key = key
        strides = tuple(step // values.itemsize for step in values.strides)
        self.view = view or (0, values.shape, strides)

    def __reduce__(self) -> tuple:
        storage = FakeStorage(self)
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (storage, *self.view, False, OrderedDict())


class FakeStorage:
    def __init__(self, tensor: FakeTensor) -> None:
        self.tensor = tensor


class FakePickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> tuple | None:
        if not isinstance(obj, FakeStorage):
            return None
        values = obj.tensor.values
        kind = getattr(sys.modules["torch"], STORAGE_OF[values.dtype.str[1:]])
        return "storage", kind, obj.tensor.key, "cpu", values.size


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put modules with the names of torch's classes in place."""
    module, utils = ModuleType("torch"), ModuleType("torch._utils")
    for name in STORAGE_OF.values():
        setattr(module, name, type(name, (), {"__module__": "torch"}))

    def rebuild(*_: object) -> None:
        raise AssertionError("torch is not used")

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def pickled(content: Any) -> bytes:
    file = io.BytesIO()
    FakePickler(file, protocol=2).dump(content)
    return file.getvalue()


def write_zip(path: Path, content: Any, tensors: list[FakeTensor]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(content))
        for tensor in tensors:
            archive.writestr(f"archive/data/{tensor.key}", tensor.values.tobytes())


def write_old(path: Path, content: Any, tensors: list[FakeTensor]) -> None:
    """Write the format before PyTorch 1.6, that of torchvision's first files."""
    parts = [pickled(MAGIC_NUMBER), pickled(1001), pickled({"little_endian": True})]
    parts += [pickled(content), pickled([tensor.key for tensor in tensors])]
    for tensor in tensors:
        parts += [tensor.values.size.to_bytes(8, "little"), tensor.values.tobytes()]
    path.write_bytes(b"".join(parts))


def example() -> list[FakeTensor]:
    values = np.arange(12, dtype=np.float32)
    return [
        FakeTensor(values.reshape(3, 4), "0"),
        FakeTensor(np.arange(4, dtype=np.float16), "1"),
        FakeTensor(np.array([7], np.int64), "2", (0, (), ())),
        # The second column of a transposed matrix shares a storage.
        FakeTensor(values, "0", (1, (4, 3), (1, 4))),
    ]


@pytest.mark.parametrize("write", [write_zip, write_old])
@pytest.mark.parametrize("wrapped", ["", "state_dict", "model", "model_ema"])
def test_state_dict_is_read(tmp_path: Path, write: Any, wrapped: str):
    first, half, number, turned = example()
    turned.view = (0, (4, 3), (1, 4))
    state = OrderedDict(a=first, half=half, n=number, turned=turned)
    content = {"epoch": 3, wrapped: state, "best": 0.5} if wrapped else state
    if wrapped == "model_ema":
        content["model"] = OrderedDict(a=half)
    write(tmp_path / "a.pth", content, [first, half, number])
    tensors, key = read_torch(tmp_path / "a.pth")
    assert key == wrapped
    assert np.array_equal(tensors["a"], np.arange(12).reshape(3, 4))
    assert tensors["half"].tolist() == [0, 1, 2, 3]
    assert tensors["n"].shape == () and tensors["n"] == 7
    assert np.array_equal(tensors["turned"], np.arange(12).reshape(3, 4).T)


class Trap:
    """Object that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("write", [write_zip, write_old])
def test_no_code_of_the_file_is_run(tmp_path: Path, write: Any):
    trapped = tmp_path / "trapped"
    write(tmp_path / "a.pth", {"a": example()[0], "b": Trap(trapped)}, [example()[0]])
    with pytest.raises(ValueError, match=r"it holds more than tensors \(_?io\.open\).*state_dict"):
        read_torch(tmp_path / "a.pth")
    assert not trapped.exists()


@pytest.mark.parametrize("write", [write_zip, write_old])
def test_damaged_files_are_refused(tmp_path: Path, write: Any):
    path = tmp_path / "a.pth"
    big = FakeTensor(np.zeros(4, np.float32), "0", (0, (5,), (1,)))
    write(path, {"a": big}, [big])
    with pytest.raises(ValueError, match="larger than its storage: the file is damaged"):
        read_torch(path)
    write(path, {"a": example()[0]}, [example()[0]])
    content = path.read_bytes()
    for keep in (0, 1, 30, len(content) // 2, len(content) - 20):
        path.write_bytes(content[:keep])
        with pytest.raises(ValueError, match=r"not a whole \.pth file|not of PyTorch"):
            read_torch(path)


@pytest.mark.parametrize("write", [write_zip, write_old])
@pytest.mark.parametrize(
    "view",
    [
        *[(0, ("x",), (1,)), ("x", (1,), (1,)), (0, (2.0,), (1,)), (0, (True,), (1,))],
        *[(0, (-1, -4), (4, 1)), (0, (2, 2), (1,)), (0, (1,) * 100, (1,) * 100), (0, None, ())],
    ],
    ids=["text", "offset", "fraction", "bool", "negative", "lengths", "crashes NumPy", "none"],
)
def test_tensors_of_an_odd_form_are_refused(tmp_path: Path, write: Any, view: tuple):
    odd = FakeTensor(np.zeros(4, np.float32), "0", view)
    write(tmp_path / "a.pth", {"a": odd}, [odd])
    with pytest.raises(ValueError, match=r"not a whole \.pth file"):
        read_torch(tmp_path / "a.pth")


def test_step_along_a_single_row_may_be_of_any_size(tmp_path: Path):
    row = FakeTensor(np.arange(4, dtype=np.float32), "0", (0, (1, 4), (10**20, 1)))
    write_zip(tmp_path / "a.pth", {"a": row}, [row])
    assert read_torch(tmp_path / "a.pth")[0]["a"].tolist() == [[0, 1, 2, 3]]


def test_list_that_holds_itself_a_billion_times_is_read_once(tmp_path: Path):
    one = example()[0]
    lists: list = []
    for _ in range(60):
        lists = [lists, lists]
    write_old(tmp_path / "a.pth", {"a": one, "lists": lists}, [one])
    assert list(read_torch(tmp_path / "a.pth")[0]) == ["a"]


def test_numbers_of_another_byte_order_are_refused(tmp_path: Path):
    one = example()[0]
    write_zip(tmp_path / "zip.pth", {"a": one}, [one])
    with zipfile.ZipFile(tmp_path / "zip.pth", "a") as archive:
        archive.writestr("archive/byteorder", "big")
    write_old(tmp_path / "old.pth", {"a": one}, [one])
    little, big = (pickled({"little_endian": is_little}) for is_little in (True, False))
    content = (tmp_path / "old.pth").read_bytes()
    (tmp_path / "old.pth").write_bytes(content.replace(little, big))
    for name in ("zip.pth", "old.pth"):
        with pytest.raises(ValueError, match="big-endian"):
            read_torch(tmp_path / name)


def test_file_cannot_change_an_allowed_function(tmp_path: Path):
    state = pickle.dumps((None, {"__defaults__": (1, 2, 3, 4)}), protocol=2)[2:-1]
    content = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state + b"b."
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", content)
    with pytest.raises(ValueError, match="sets attributes of something else"):
        read_torch(tmp_path / "a.pth")
    function = ALLOWED["torch._utils", "_rebuild_tensor_v2"]
    assert function.__defaults__ is None


def test_file_without_tensors_by_name_is_refused(tmp_path: Path):
    for content in ({"epoch": 3}, [1, 2], example()[0]):
        write_zip(tmp_path / "a.pth", content, [example()[0]])
        with pytest.raises(ValueError, match="no tensors by name. Save the state dict alone"):
            read_torch(tmp_path / "a.pth")
