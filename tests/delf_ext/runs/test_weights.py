"""Test how the stride layout is decided from recipe and weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from delf_ext.recipes.schema import Trunk
from delf_ext.runs.weights import with_layout

SLIM = "somewhere/resnet_v1_50.ckpt"
PQF = "somewhere/resnet_v1_50_pqf.ckpt"


def decided(checkpoint: str, trunk: Trunk = Trunk()) -> tuple[str, list[str]]:  # noqa: B008 frozen
    lines: list[str] = []
    new_trunk = with_layout(trunk, checkpoint, lines.append)
    # Only the layout may change.
    assert dataclasses.replace(new_trunk, layout=trunk.layout) == trunk
    return new_trunk.layout, lines


def test_layout_comes_from_the_manifest() -> None:
    assert decided(SLIM) == ("slim", [])
    assert decided(f"{PQF}.index", Trunk(end_point="block3")) == ("v1.5", [])
    assert decided(PQF, Trunk(layout="v1.5")) == ("v1.5", [])


def test_unknown_weights_get_the_slim_layout_and_a_log_line(tmp_path: Path) -> None:
    (tmp_path / "mine.ckpt.index").touch()
    (tmp_path / "mine.ckpt.data-00000-of-00001").touch()
    checkpoint = f"{tmp_path}/mine.ckpt"
    assumed = "assuming TF-Slim's. Pass --layout to change it."
    layout, lines = decided(checkpoint)
    assert layout == "slim" and lines == [
        f"{checkpoint}: the stride layout of these weights is unknown; {assumed}",
    ]
    assert decided(checkpoint, Trunk(layout="v1.5")) == ("v1.5", [])
    assert decided(checkpoint, Trunk("vgg_16", end_point="conv5")) == ("slim", [])


def test_missing_weights_are_an_error_before_a_layout_is_assumed(tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(ValueError, match="none.ckpt: no such checkpoint"):
        with_layout(Trunk(), f"{tmp_path}/none.ckpt", lines.append)
    assert lines == []


def test_random_weights_get_the_recipe_layout_or_slim() -> None:
    assert decided("") == ("slim", [])
    assert decided("", Trunk(layout="keras")) == ("keras", [])


def test_trunk_of_another_source_is_unchanged() -> None:
    assert decided(SLIM, Trunk("b0", source="zoo")) == ("auto", [])


def test_contradictions_are_errors() -> None:
    with pytest.raises(ValueError) as other_trunk:
        decided(SLIM, Trunk("resnet_v1_101"))
    holds = "holds resnet_v1_50, not resnet_v1_101: pass --resnet_type=resnet_v1_50/..."
    assert str(other_trunk.value) == f"{SLIM} {holds}"
    with pytest.raises(ValueError) as other_layout:
        decided(PQF, Trunk(layout="slim"))
    has = (
        "has layout v1.5, not slim: the weights would load, but the embeddings would be bad. "
        "Leave --layout out."
    )
    assert str(other_layout.value) == f"{PQF} {has}"


def test_json_file_beside_the_checkpoint_is_read(tmp_path: Path) -> None:
    checkpoint = tmp_path / "mine.ckpt"
    Path(f"{checkpoint}.json").write_text("{")
    with pytest.raises(ValueError, match="mine.ckpt.json"):
        decided(str(checkpoint))
