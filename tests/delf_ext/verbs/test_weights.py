"""Layouts: what the weights say beats what the flags assume, and contradictions are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from delf_ext.verbs.weights import resolve_layout


def test_the_manifest_says_the_layout() -> None:
    assert resolve_layout("somewhere/resnet_v1_50.ckpt", "auto", "resnet_v1_50/block4") == "slim"
    assert resolve_layout("somewhere/resnet_v1_50_pqf.ckpt.index", "auto", "resnet_v1_50/block3") == "v1.5"


def test_unknown_weights_are_taken_for_tf_slims_and_that_is_said(capsys) -> None:
    assert resolve_layout("mine.ckpt", "auto", "resnet_v1_50/block4") == "slim"
    assert "assuming TF-Slim's" in capsys.readouterr().out
    assert resolve_layout("mine.ckpt", "v1.5", "resnet_v1_50/block4") == "v1.5"
    assert resolve_layout(None, "auto", "resnet_v1_50/block4") == "slim"


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValueError, match="holds resnet_v1_50, not resnet_v1_101: pass --resnet_type=resnet_v1_50"):
        resolve_layout("resnet_v1_50.ckpt", "auto", "resnet_v1_101/block4")
    with pytest.raises(ValueError, match="has layout v1.5, not slim: it would load and work badly"):
        resolve_layout("resnet_v1_50_pqf.ckpt", "slim", "resnet_v1_50/block4")


def test_a_side_file_speaks_for_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "mine.ckpt"
    Path(f"{checkpoint}.json").write_text("{")
    with pytest.raises(ValueError, match="mine.ckpt.json"):
        resolve_layout(str(checkpoint), "auto", "resnet_v1_50/block4")
