"""The place of weights may be spelt in several ways when a run is resumed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from delf_ext.verbs.resumed_flags import _starts


@pytest.mark.parametrize("spelling", ["runs/parent", "other/../runs/parent", "link"])
def test_each_spelling_of_the_place_of_weights_is_the_same(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs" / "parent").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "runs" / "parent")
    monkeypatch.chdir(tmp_path)
    facts = SimpleNamespace(flags={"from_run": str(tmp_path / "runs" / "parent")})
    run: Any = SimpleNamespace(facts=facts)
    flags = SimpleNamespace(pretrained_model="", from_run=spelling)
    assert _starts(run, flags) == []
    flags.from_run = "other"
    assert _starts(run, flags) == [
        f"--from_run=other differs from the run's {tmp_path}/runs/parent"
    ]


def test_run_without_a_parent_differs_from_each_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = SimpleNamespace(pretrained_model="", from_run=".")
    run: Any = SimpleNamespace(facts=SimpleNamespace(flags={}))
    assert _starts(run, flags) == ["--from_run=. differs from the run's no other run"]
