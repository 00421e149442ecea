from __future__ import annotations

import sys

import pytest

from data_io import progress as module
from data_io.progress import progress


def test_a_log_gets_complete_lines_without_repetition(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    with progress(3, "embedding") as bar:
        for _ in range(3):
            bar.update(1)
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\r" not in printed.out
    assert "image/s]" in printed.out
    lines = printed.out.splitlines()
    assert lines[-1].startswith("embedding: 100% 3/3 [")
    assert len(set(lines)) == len(lines)


def test_short_work_prints_nothing_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    for total in (0, 3):
        with progress(total, "embedding") as bar:
            bar.update(total)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(3, "embedding") as bar:
        bar.update(3)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "\rembedding: 100%" in printed.err
