"""Test `infer` with a tiny network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_io.synthetic.dataset import DrawConfig
from delf_ext.verbs import infer

CHAIN = "--method=dba:3,aqe:2@3,k_reciprocal:4,2"


@pytest.fixture(scope="module")
def place(make_place: Callable[[DrawConfig], Path]) -> Path:
    return make_place(
        DrawConfig(num_classes=4, num_train=8, num_queries=6, num_gallery=16, image_size_px=64)
    )


def test_infer_writes_the_plain_answer_then_replaces_it_by_the_re_ranked_one(
    place: Path, tmp_path: Path, monkeypatch, run_verb
) -> None:
    written: list[list] = []

    def record(path: Path, text: str) -> None:
        written.append(json.loads(path.with_suffix(".json").read_text()))

    monkeypatch.setattr(infer, "write_text", record)
    run_verb(place, "infer", CHAIN, f"--out={tmp_path}/a.json", "--time_budget=1000")
    monkeypatch.undo()
    run_verb(place, "infer", f"--out={tmp_path}/plain.json")
    assert len(written) == 2
    assert written[0] == json.loads((tmp_path / "plain.json").read_text()) != written[1]
    assert written[1] == json.loads((tmp_path / "a.json").read_text())
    for _, (_, references) in written[1]:
        assert len(references) == len(set(references)) == 16


def test_infer_without_time_answers_in_gallery_order(
    place: Path, tmp_path: Path, capsys, run_verb
) -> None:
    run_verb(place, "infer", CHAIN, f"--out={tmp_path}/a.json", "--time_budget=0")
    answer = json.loads((tmp_path / "a.json").read_text())
    assert [number for number, _ in answer] == list(range(6))
    assert all(len(set(names)) == 16 for _, (_, names) in answer)
    assert "the answer is not ranked: no time left" in capsys.readouterr().out


def test_infer_lists_fewer_references_if_all_do_not_fit_in_memory(
    place: Path, tmp_path: Path, monkeypatch, capsys, run_verb
) -> None:
    monkeypatch.setattr("delf_ext.pipeline.PLACES_IN_MEMORY", 6 * 15)
    monkeypatch.setattr("delf_ext.pipeline.KEPT_PER_QUERY", 5)
    run_verb(place, "infer", CHAIN, f"--out={tmp_path}/a.json")
    answer = json.loads((tmp_path / "a.json").read_text())
    assert all(len(set(names)) == 5 for _, (_, names) in answer)
    assert "6 queries, each with 5 of 16 references" in capsys.readouterr().out
