from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_io.cores import num_cores


@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("6400000 100000\n", 8),
        ("", 8),
    ],
)
def test_limit_of_a_container_counts(
    text: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(text, encoding="ascii")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8), raising=False)
    assert num_cores(limit) == cores
    assert num_cores(tmp_path / "none") == 8


def test_systems_without_affinity_count_all_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert num_cores(tmp_path / "none") == 1
