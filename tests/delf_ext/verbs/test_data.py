"""Which data a verb works on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data_io.datasets import DataSet
from data_io.records import ImageList
from delf_ext.config import LossConfig, RunConfig
from delf_ext.verbs import data as verbs_data
from delf_ext.verbs.flags import new_flags

EMPTY = ImageList([], [], [])


def images(labels: list[int], name: str = "t") -> ImageList:
    ids = [f"{name}{i}" for i in range(len(labels))]
    return ImageList(ids, [f"{i}.jpg" for i in ids], labels)


def flags_of(*arguments: str):
    values = new_flags()
    values(["test", *arguments])
    return values


def test_data_come_from_the_flag_then_nsml_then_debug_then_a_drawing(monkeypatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(verbs_data, "draw", lambda out, classes, seed: tmp_path / f"drawn-{classes}")
    monkeypatch.setenv("DATASET_PATH", "/data/ir_ph1_v2")
    assert verbs_data.resolve_data(flags_of("--data=mine")) == "mine"
    assert verbs_data.resolve_data(flags_of("--debug")) == "/data/ir_ph1_v2"
    monkeypatch.delenv("DATASET_PATH")
    assert verbs_data.resolve_data(flags_of("--debug", f"--debug_data={tmp_path}")) == str(tmp_path)
    assert verbs_data.resolve_data(flags_of("--debug", "--debug_data=nowhere")) == str(tmp_path / "drawn-40")
    assert verbs_data.resolve_data(flags_of(f"--debug_data={tmp_path}")) == str(tmp_path / "drawn-100")
    assert "NSML's DATASET_PATH" in capsys.readouterr().out


def test_a_drawn_data_set_has_the_challenges_proportions_and_is_kept(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path))
    first = verbs_data.draw(None, 3, seed=0, image_size_px=32)
    assert first.parent == tmp_path and len(list(first.rglob("train_data/*/*.jpg"))) == 21
    stamp = (first / "drawn.json").stat().st_mtime_ns
    assert verbs_data.draw(None, 3, seed=0, image_size_px=32) == first
    assert (first / "drawn.json").stat().st_mtime_ns == stamp
    assert verbs_data.draw(None, 3, seed=1, image_size_px=32) != first


def test_evaluation_lists() -> None:
    config = RunConfig(loss=LossConfig(train_logits=True), dev_percent=0.5)
    whole = DataSet("d", images([0, 0, 1, 1, 2, 2, 3, 3]), images([0], "q"), images([0, 1], "g"), ("a", "b", "c", "d"))
    query, gallery, _ = verbs_data.evaluation_lists(whole, config)
    assert query is whole.query and gallery is whole.gallery

    only_train = dataclasses.replace(whole, query=EMPTY, gallery=EMPTY)
    query, gallery, what = verbs_data.evaluation_lists(only_train, config)
    train, dev = verbs_data.dev_split(whole.train, config)
    assert set(query.ids) | set(gallery.ids) == set(dev.ids) and "dev split (block" in what
    assert not set(np.unique(train.labels)) & set(np.unique(dev.labels))

    query, gallery, what = verbs_data.evaluation_lists(only_train, None)
    assert query is gallery is only_train.train and "each training image against all others" in what

    with pytest.raises(ValueError, match="the data have no query images"):
        verbs_data.evaluation_lists(dataclasses.replace(whole, query=EMPTY), config)


def test_no_dev_split_on_request() -> None:
    config = RunConfig(loss=LossConfig(train_logits=True), dev_percent=0.0)
    train, dev = verbs_data.dev_split(images([0, 1]), config)
    assert len(train) == 2 and len(dev) == 0
