"""Test which source a path gives."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from delf_ext.config import UsageError
from delf_ext.recipes import schema
from delf_ext.runs import sources
from delf_ext.runs.sources import (
    CheckpointSource,
    EnsembleSource,
    OnnxSource,
    RunSource,
    Runtime,
    chosen_runtime,
    source_of,
)


@pytest.mark.parametrize("name", ["run", "[2024] w*?", "run.onnx"])
def test_directory_is_a_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert source_of(tmp_path / name) == RunSource(str(tmp_path / name))


def test_onnx_suffix_is_an_onnx_network(tmp_path: Path) -> None:
    assert source_of(tmp_path / "a.onnx") == OnnxSource(str(tmp_path / "a.onnx"))


@pytest.mark.parametrize("name", ["trunk.ckpt", "[2024] w*?"])
def test_other_file_is_a_checkpoint_with_or_without_index_suffix(
    tmp_path: Path,
    name: str,
) -> None:
    (tmp_path / f"{name}.index").touch()
    expected = CheckpointSource(str(tmp_path / name))
    assert source_of(tmp_path / name) == source_of(f"{tmp_path / name}.index") == expected
    (tmp_path / "v1.ckpt").touch()
    assert source_of(str(tmp_path / "v1.ckpt")) == CheckpointSource(str(tmp_path / "v1.ckpt"))


def test_name_of_weights_is_no_path_and_a_path_is_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("delf_ext.runs.weights.package_file", Path)
    Path("lite1").mkdir()
    opened = source_of("lite1")
    assert isinstance(opened, CheckpointSource) and opened.path == "lite1"
    for path in ("./lite1", Path("lite1")):
        assert source_of(path) == RunSource(str(tmp_path / "lite1"))
    with pytest.raises(UsageError, match="no run directory"):
        source_of("./lite2")


def test_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        source_of(tmp_path / "none")
    message = "no run directory, checkpoint or ONNX file there."
    assert str(caught.value) == f"{tmp_path / 'none'}: {message}"


def test_sources_can_be_pickled() -> None:
    members = (
        RunSource("a"),
        CheckpointSource("b", schema.Trunk("vgg_16"), schema.Gem()),
        OnnxSource("c"),
    )
    source = EnsembleSource(members, schema.MeanEmbedding(), "three")
    assert pickle.loads(pickle.dumps((source, Runtime("openvino")))) == (
        source,
        Runtime("openvino"),
    )


@pytest.mark.parametrize("is_installed", [True, False])
def test_auto_is_openvino_only_for_lite_and_only_if_installed(
    is_installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "find_spec", lambda name: name if is_installed else None)
    lite = source_of("lite2")
    expected = Runtime("openvino" if is_installed else "auto", "off")
    assert chosen_runtime(lite, Runtime("auto", "off")) == expected
    assert chosen_runtime(lite, Runtime("tensorflow")) == Runtime("tensorflow")
    for other in (RunSource("a"), CheckpointSource("b"), OnnxSource("c")):
        assert chosen_runtime(other, Runtime()) == Runtime()
