"""Layouts: what the weights say beats what the flags assume, and contradictions are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from delf_ext.recipes.schema import Trunk
from delf_ext.runs.layouts import with_layout

SLIM, PQF = "somewhere/resnet_v1_50.ckpt", "somewhere/resnet_v1_50_pqf.ckpt"


def decided(checkpoint: str, trunk: Trunk = Trunk()) -> tuple[str, list[str]]:  # noqa: B008 frozen
    said: list[str] = []
    found = with_layout(trunk, checkpoint, said.append)
    assert Trunk(**{**vars(found), "layout": trunk.layout}) == trunk  # nothing else changes
    return found.layout, said


def test_the_manifest_says_the_layout() -> None:
    assert decided(SLIM) == ("slim", [])
    assert decided(f"{PQF}.index", Trunk(end_point="block3")) == ("v1.5", [])
    assert decided(PQF, Trunk(layout="v1.5")) == ("v1.5", [])


def test_unknown_weights_are_taken_for_tf_slims_and_that_is_said() -> None:
    assumed = "assuming TF-Slim's. Pass --layout to change it."
    layout, said = decided("mine.ckpt")
    assert layout == "slim" and said == [
        f"mine.ckpt: the stride layout of these weights is unknown; {assumed}",
    ]
    assert decided("mine.ckpt", Trunk(layout="v1.5")) == ("v1.5", [])
    assert decided("mine.ckpt", Trunk("vgg_16", end_point="conv5")) == ("slim", [])


def test_random_weights_have_the_recipes_layout_or_tf_slims() -> None:
    assert decided("") == ("slim", [])
    assert decided("", Trunk(layout="keras")) == ("keras", [])


def test_a_trunk_of_another_source_has_no_layout_to_decide() -> None:
    assert decided(SLIM, Trunk("b0", source="zoo")) == ("auto", [])


def test_contradictions_are_refused() -> None:
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


def test_a_side_file_speaks_for_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "mine.ckpt"
    Path(f"{checkpoint}.json").write_text("{")
    with pytest.raises(ValueError, match="mine.ckpt.json"):
        decided(str(checkpoint))
