"""Test `draw`."""

from __future__ import annotations

from pathlib import Path

import pytest

import dual_main


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--draw_classes=0", "--draw_classes must be at least 1 and at most 1000000. Received 0."),
        ("--draw_shift=2", "--draw_shift must be at least 0 and at most 1. Received 2.0."),
        ("--draw_shift=0.5", "--draw_shift is for --draw_layout=lotte: leave it out"),
        ("--draw_size=31", "--draw_size must be at least 32 and at most 2048. Received 31."),
        ("--seed=-1", "--seed must be at least 0 and at most 4294967295. Received -1."),
    ],
)
def test_a_wrong_number_is_a_usage_error(flag: str, message: str, refused) -> None:
    assert message in refused(2, "draw", flag)


def test_one_command_draws_the_lotte_competition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--draw_layout=lotte", "--draw_classes=2", "--draw_size=32", "--draw_shift=0.5"]
    dual_main.main(["draw", f"--out={tmp_path / 'lotte'}", *flags])
    line = capsys.readouterr().out
    sizes = "2 classes, 96 training images, 144 queries, searched in the training images"
    assert line == f"{tmp_path / 'lotte'}: Lotte competition tree: {sizes}\n"
