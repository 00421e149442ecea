"""Test how a training run saves, loads and reports on the platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_io.files.artifacts import read_json
from delf_ext import nsml
from delf_ext.nsml.entry import TrainingSession


def test_training_session_loads_what_it_saved(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(nsml, "bind", lambda **functions: None)
    source = TrainingSession(tmp_path / "a", epochs=1)
    folder = tmp_path / "a" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "last-7.index").write_text("index")
    (folder / "last.json").write_text(json.dumps({"checkpoints": [7], "facts": {}}))
    for name in ("recipe.json", "facts.json"):
        (tmp_path / "a" / name).write_text(name)
    (tmp_path / "saved").mkdir()
    source.save(str(tmp_path / "saved"))

    target = TrainingSession(tmp_path / "b", epochs=1)
    (tmp_path / "b" / "checkpoint").mkdir(parents=True)
    (tmp_path / "b" / "checkpoint" / "last-9.index").write_text("of another run")
    assert not target.loaded
    target.load(str(tmp_path / "saved"))
    assert target.loaded
    file_names = sorted(path.name for path in (tmp_path / "b" / "checkpoint").iterdir())
    assert file_names == ["last-7.index", "last.json"]
    assert read_json(tmp_path / "b" / "checkpoint" / "last.json")["checkpoints"] == [7]
    assert (tmp_path / "b" / "recipe.json").read_text() == "recipe.json"


@pytest.mark.parametrize(("best", "stays"), [(5, True), (9, False)])
def test_resumed_session_keeps_best_weights_of_earlier_steps_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: int, stays: bool
) -> None:
    monkeypatch.setattr(nsml, "bind", lambda **functions: None)
    for place, name, number in (("saved", "last", 7), ("run", "last", 8), ("run", "best", best)):
        folder = tmp_path / place / "checkpoint"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}-{number}.index").write_text(name)
        (folder / f"{name}.json").write_text(json.dumps({"checkpoints": [number], "facts": {}}))
    for name in ("recipe.json", "facts.json"):
        (tmp_path / "saved" / name).write_text(name)
    TrainingSession(tmp_path / "run", epochs=1).load(str(tmp_path / "saved"))
    file_names = {path.name for path in (tmp_path / "run" / "checkpoint").iterdir()}
    assert file_names == {
        "last-7.index",
        "last.json",
        *([f"best-{best}.index", "best.json"] if stays else []),
    }


def test_checkpoint_of_an_earlier_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nsml, "bind", lambda **functions: None)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "config.json").write_text("{}")
    with pytest.raises(
        ValueError, match="an earlier version of mandoo saved this .*: start a new session"
    ):
        TrainingSession(tmp_path / "run", epochs=1).load(str(tmp_path / "saved"))


def test_metrics_are_reported_before_a_checkpoint_is_saved(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[dict[str, object]] = []
    monkeypatch.setattr(nsml, "report", lambda **values: reported.append(values))
    monkeypatch.setattr(nsml, "save", lambda step: reported.append({"saved": step}))
    monkeypatch.setattr(nsml, "bind", lambda **functions: None)
    training = TrainingSession(tmp_path, epochs=2)
    training.epoch_ended(1, 10, {"loss": 0.5})
    training.evaluated(10, {"mAP": 0.25, "recall_at_1": 0.75}, is_best=True)
    position = {"summary": True, "epoch": 1, "epoch_total": 2, "step": 10}
    dev = {"dev__mAP": 0.25, "dev__recall_at_1": 0.75}
    assert reported == [position | {"loss": 0.5}, {"saved": 10}, position | dev, {"saved": 10}]


def test_checkpoint_after_the_fit_has_the_best_weights_and_the_reduction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    monkeypatch.setattr(nsml, "bind", lambda **functions: None)
    monkeypatch.setattr(nsml, "save", saved.append)
    folder = tmp_path / "run" / "checkpoint"
    folder.mkdir(parents=True)
    for name, number in (("last", 7), ("best", 5)):
        (folder / f"{name}-{number}.index").write_text(name)
        (folder / f"{name}.json").write_text(json.dumps({"checkpoints": [number], "facts": {}}))
    for name in ("recipe.json", "facts.json", "projection.npz"):
        (tmp_path / "run" / name).write_text(name)
    session = TrainingSession(tmp_path / "run", epochs=1)
    for place, files in (("before", 2), ("after", 4)):
        (tmp_path / place).mkdir()
        if place == "after":
            session.reduced()
        session.save(str(tmp_path / place))
        assert len(list((tmp_path / place / "checkpoint").iterdir())) == files
        assert (tmp_path / place / "projection.npz").exists() == (place == "after")
    assert saved == [7]
