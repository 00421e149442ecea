"""Test how the stride layout is decided from recipe and weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from delf_ext.recipes.schema import Trunk
from delf_ext.recipes.trunk_names import trunk_named
from delf_ext.runs.weights import find_weights, known_trunk, locate_weights, with_layout
from pretrained.lite_names import SCHEMES, torch_tensors

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


# --- weights of EfficientNet-Lite


@pytest.fixture
def lite1(tmp_path: Path) -> str:
    """Return the path of weights of EfficientNet-Lite1, with timm's names."""
    shapes = torch_tensors("efficientnet_lite1", SCHEMES["conv_stem.weight"])
    path = tmp_path / "lite1.npz"
    np.savez(path, **{name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    return str(path)


def test_lite_weights_are_known_by_their_tensors(lite1: str) -> None:
    assert known_trunk(lite1) == ("lite", "efficientnet_lite1", "auto")
    assert locate_weights(lite1, print) == lite1
    trunk = trunk_named("lite1/block5")
    assert find_weights(trunk, lite1, print) == (trunk, lite1)
    assert find_weights(trunk, "", print) == (trunk, "")


@pytest.mark.parametrize("name", ["lite0", "resnet_v1_50/block4"])
def test_lite_weights_of_another_trunk_are_refused(lite1: str, name: str) -> None:
    with pytest.raises(ValueError) as caught:
        find_weights(trunk_named(name), lite1, print)
    assert str(caught.value) == (
        f"{lite1}: holds efficientnet_lite1, not {trunk_named(name).name}. "
        "Pass --resnet_type=efficientnet_lite1; with --recipe instead "
        "--set model.trunk.source=lite --set model.trunk.name=efficientnet_lite1 "
        "--set model.trunk.end_point=head."
    )


def test_other_weights_for_a_lite_trunk_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "mine.ckpt.index").touch()
    (tmp_path / "mine.ckpt.data-00000-of-00001").touch()
    for name, reason in {
        "other.npz": "holds another network. Pass lite0, lite1 or lite2",
        "text.pth": "is a text file, not weights.",
        "mine.ckpt": "is a TensorFlow checkpoint, which holds no EfficientNet-Lite. Pass lite0,",
        "none": "no such checkpoint.",
    }.items():
        with pytest.raises(ValueError) as caught:
            find_weights(trunk_named("lite0"), f"{tmp_path}/{name}", print)
        assert str(caught.value).startswith(f"{tmp_path}/{name}: {reason}"), name
