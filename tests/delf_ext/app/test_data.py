"""Test the choice of images: drawn data sets, validation splits, queries and gallery."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_io.datasets import DataSet
from data_io.records import NO_LABEL, ImageList
from data_io.splits import query_and_gallery, split_classes
from delf_ext.app.data import content_of, draw_products, split
from delf_ext.recipes import schema

EMPTY = ImageList([], [], [])


def make_images(labels: list[int], name: str = "t") -> ImageList:
    ids = [f"{name}{i}" for i in range(len(labels))]
    return ImageList(ids, [f"{i}.jpg" for i in ids], labels)


COMPLETE = DataSet(
    "d",
    make_images([0, 0, 1, 1, 2, 2, 3, 3]),
    make_images([0], "q"),
    make_images([0, 1], "g"),
    ("a", "b", "c", "d"),
)
ONLY_TRAIN = dataclasses.replace(COMPLETE, query=EMPTY, gallery=EMPTY)


def test_drawn_data_set_has_the_challenges_proportions_and_is_reused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("MANDOO_CACHE", str(tmp_path))
    first = draw_products(None, 3, seed=0, image_size_px=32)
    assert first.parent == tmp_path and len(list(first.rglob("train_data/*/*.jpg"))) == 21
    stamp = (first / "drawn.json").stat().st_mtime_ns
    assert draw_products(None, 3, seed=0, image_size_px=32) == first
    assert (first / "drawn.json").stat().st_mtime_ns == stamp
    assert draw_products(None, 3, seed=1, image_size_px=32) != first
    assert draw_products(tmp_path / "mine", 3, seed=0, image_size_px=32) == tmp_path / "mine"


# --- split


def test_split_without_validation_holds_nothing_back() -> None:
    parts = split(COMPLETE.train, COMPLETE, None, seed=0)
    assert parts.train is COMPLETE.train and len(parts.query) == len(parts.gallery) == 0
    assert (parts.held_out, parts.description) == ((), "none")


@pytest.mark.parametrize(
    "validation",
    [None, schema.ClassBlock(share=0.5), schema.StratifiedFolds(folds=2, fold=0)],
    ids=["none", "classes", "folds"],
)
def test_images_without_a_label_are_in_no_part_of_a_split(validation: Any) -> None:
    images = make_images([0, NO_LABEL, 0, 1, 1, 2, 2, NO_LABEL])
    parts = split(images, dataclasses.replace(COMPLETE, train=images), validation, seed=0)
    ids = {*parts.train.ids.tolist(), *parts.query.ids.tolist(), *parts.gallery.ids.tolist()}
    assert ids == {"t0", "t2", "t3", "t4", "t5", "t6"}
    same = split(images.labelled(), ONLY_TRAIN, validation, seed=0)
    assert same.train.ids.tolist() == parts.train.ids.tolist() and same.held_out == parts.held_out


@pytest.mark.parametrize("kind", [schema.ClassBlock, schema.RandomClasses])
@pytest.mark.parametrize("seed", [0, 7])
def test_held_out_classes_are_not_trained_on(kind: type[schema.HeldOutClasses], seed: int) -> None:
    choice = {schema.ClassBlock: "block", schema.RandomClasses: "random"}[kind]
    parts = split(
        COMPLETE.train, COMPLETE, kind(share=0.5, max_queries=2, gallery_per_class=1), seed
    )
    train, dev = split_classes(COMPLETE.train, 0.5, choice, seed)
    query, gallery = query_and_gallery(dev, 2, 1, seed)
    assert parts.train.ids.tolist() == train.ids.tolist()
    assert parts.query.ids.tolist() == query.ids.tolist()
    assert parts.gallery.ids.tolist() == gallery.ids.tolist()
    assert parts.held_out == tuple("abcd"[label] for label in np.unique(dev.labels))
    assert not set(np.unique(train.labels)) & set(np.unique(dev.labels))
    assert parts.description == f"dev split ({choice}, 0.5 of the classes)"


def test_split_is_without_queries_if_held_out_classes_have_one_image_each() -> None:
    single = DataSet("d", make_images([0, 1, 2, 3]), EMPTY, EMPTY, ("a", "b", "c", "d"))
    parts = split(single.train, single, schema.ClassBlock(share=0.5), seed=0)
    assert len(parts.train) == 2 and len(parts.held_out) == 2
    assert len(parts.query) == len(parts.gallery) == 0


def test_images_of_a_fold_are_searched_in_the_other_folds() -> None:
    kinds = [schema.StratifiedFolds(folds=2, fold=fold) for fold in (0, 1)]
    folds = [split(COMPLETE.train, COMPLETE, kind, 3) for kind in kinds]
    for number, parts in enumerate(folds):
        assert parts.gallery is parts.train and parts.held_out == tuple(parts.query.ids.tolist())
        assert np.bincount(parts.query.labels).tolist() == [1, 1, 1, 1]
        assert parts.description == f"fold {number + 1} of 2, searched in the other folds"
        assert not set(parts.query.ids) & set(parts.train.ids)
    assert set(folds[0].query.ids) | set(folds[1].query.ids) == set(COMPLETE.train.ids)


def test_given_validation_holds_no_training_image_back() -> None:
    parts = split(COMPLETE.train, COMPLETE, schema.Given(), seed=0)
    assert parts.train is COMPLETE.train and parts.query is COMPLETE.query
    assert (parts.gallery is COMPLETE.gallery, parts.held_out) == (True, ())
    assert parts.description == "queries and gallery of the data"


@pytest.mark.parametrize("missing", ["query", "gallery"])
def test_given_validation_without_lists_is_refused(missing: str) -> None:
    data = dataclasses.replace(COMPLETE, **{missing: EMPTY})
    with pytest.raises(ValueError) as caught:
        split(data.train, data, schema.Given(), seed=0)
    message = "d: validation Given needs queries and a gallery; the data has none."
    assert str(caught.value) == message


def test_data_that_does_not_allow_a_split_is_refused() -> None:
    one_class = make_images([0, 0, 0])
    with pytest.raises(ValueError, match="a split by class needs at least 2 classes. Received 1."):
        split(one_class, COMPLETE, schema.ClassBlock(), seed=0)
    with pytest.raises(
        ValueError,
        match="number of folds must be between 2 and the number of images of .* two or more, 3",
    ):
        split(one_class, COMPLETE, schema.StratifiedFolds(folds=5), seed=0)
    with pytest.raises(ValueError, match="a split by class needs labels"):
        split(ImageList(["a"], ["a.jpg"]), COMPLETE, schema.ClassBlock(), seed=0)


@pytest.mark.parametrize("kind", [schema.ClassBlock(share=0.5), schema.StratifiedFolds(folds=2)])
def test_held_back_images_stay_held_back_if_files_are_added_or_removed(
    kind: schema.Validation,
) -> None:
    first = split(COMPLETE.train, COMPLETE, kind, seed=3)
    trained = set(first.train.ids)
    dev = set(first.query.ids) | set(first.gallery.ids) - trained
    for removed in range(len(COMPLETE.train)):
        fewer = COMPLETE.train.take([row for row in range(8) if row != removed])
        parts = split(fewer, COMPLETE, kind, 3, first.held_out)
        assert set(parts.train.ids) == trained & set(fewer.ids)
        assert set(parts.query.ids) <= dev and parts.description == first.description
    more = make_images([0, 0, 1, 1, 2, 2, 3, 3, 0, 1])
    parts = split(more, COMPLETE, kind, 3, first.held_out)
    assert trained <= set(parts.train.ids) and not trained & set(parts.query.ids)


def test_data_without_the_held_back_names_is_split_as_if_new() -> None:
    kind = schema.ClassBlock(share=0.5)
    parts = split(COMPLETE.train, COMPLETE, kind, 3, ("x", "y"))
    assert parts.held_out == split(COMPLETE.train, COMPLETE, kind, 3).held_out


# --- content


def test_content_of_depends_on_contents_and_labels_and_not_on_names(tmp_path: Path) -> None:
    def listed(names: list[str], labels: list[int] | None, contents: list[str]) -> ImageList:
        for name, content in zip(names, contents, strict=True):
            (tmp_path / name).write_text(content)
        return ImageList(names, [str(tmp_path / name) for name in names], labels)

    first = content_of(listed(["a", "b"], [0, 1], ["x", "y"]))
    assert content_of(listed(["c", "d"], [0, 1], ["x", "y"])) == first and len(first) == 12
    others = [([0, 1], ["x", "z"]), ([0, 0], ["x", "y"]), (None, ["x", "y"]), ([0, 1], ["y", "x"])]
    digests = {content_of(listed(["e", "f"], labels, contents)) for labels, contents in others}
    assert len(digests | {first}) == 5
