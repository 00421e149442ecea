"""Which images a use case works on: drawn data, validation splits, queries and gallery."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data_io.datasets import DataSet
from data_io.records import ImageList
from data_io.splits import query_and_gallery, split_classes
from delf_ext.app.data import content_of, draw_products, evaluation_lists, split
from delf_ext.recipes import schema

EMPTY = ImageList([], [], [])


def images(labels: list[int], name: str = "t") -> ImageList:
    ids = [f"{name}{i}" for i in range(len(labels))]
    return ImageList(ids, [f"{i}.jpg" for i in ids], labels)


WHOLE = DataSet(
    "d",
    images([0, 0, 1, 1, 2, 2, 3, 3]),
    images([0], "q"),
    images([0, 1], "g"),
    ("a", "b", "c", "d"),
)
ONLY_TRAIN = dataclasses.replace(WHOLE, query=EMPTY, gallery=EMPTY)


def test_a_drawn_data_set_has_the_challenges_proportions_and_is_kept(
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


def test_no_validation_holds_nothing_back() -> None:
    parts = split(WHOLE.train, WHOLE, None, seed=0)
    assert parts.train is WHOLE.train and len(parts.query) == len(parts.gallery) == 0
    assert (parts.held_out, parts.what) == ((), "none")


@pytest.mark.parametrize("kind", [schema.ClassBlock, schema.RandomClasses])
@pytest.mark.parametrize("seed", [0, 7])
def test_held_out_classes_are_not_trained_on(kind: type[schema.HeldOutClasses], seed: int) -> None:
    how = {schema.ClassBlock: "block", schema.RandomClasses: "random"}[kind]
    parts = split(WHOLE.train, WHOLE, kind(share=0.5, max_queries=2, gallery_per_class=1), seed)
    train, dev = split_classes(WHOLE.train, 0.5, how, seed)
    query, gallery = query_and_gallery(dev, 2, 1, seed)
    assert parts.train.ids.tolist() == train.ids.tolist()
    assert parts.query.ids.tolist() == query.ids.tolist()
    assert parts.gallery.ids.tolist() == gallery.ids.tolist()
    assert parts.held_out == tuple("abcd"[label] for label in np.unique(dev.labels))
    assert not set(np.unique(train.labels)) & set(np.unique(dev.labels))
    assert parts.what == f"dev split ({how}, 0.5 of the classes)"


def test_held_out_classes_of_one_image_each_cannot_be_searched() -> None:
    single = DataSet("d", images([0, 1, 2, 3]), EMPTY, EMPTY, ("a", "b", "c", "d"))
    parts = split(single.train, single, schema.ClassBlock(share=0.5), seed=0)
    assert len(parts.train) == 2 and len(parts.held_out) == 2
    assert len(parts.query) == len(parts.gallery) == 0


def test_a_fold_is_searched_for_in_the_others() -> None:
    kinds = [schema.StratifiedFolds(folds=2, fold=fold) for fold in (0, 1)]
    folds = [split(WHOLE.train, WHOLE, kind, 3) for kind in kinds]
    for number, parts in enumerate(folds):
        assert parts.gallery is parts.train and parts.held_out == tuple(parts.query.ids.tolist())
        assert np.bincount(parts.query.labels).tolist() == [1, 1, 1, 1]
        assert parts.what == f"fold {number} of 2, searched for in the others"
        assert not set(parts.query.ids) & set(parts.train.ids)
    assert set(folds[0].query.ids) | set(folds[1].query.ids) == set(WHOLE.train.ids)


def test_given_queries_cost_no_training_image() -> None:
    parts = split(WHOLE.train, WHOLE, schema.Given(), seed=0)
    assert parts.train is WHOLE.train and parts.query is WHOLE.query
    assert (parts.gallery is WHOLE.gallery, parts.held_out) == (True, ())
    assert parts.what == "queries and gallery of the data"


@pytest.mark.parametrize("missing", ["query", "gallery"])
def test_queries_that_are_not_given_are_refused(missing: str) -> None:
    data = dataclasses.replace(WHOLE, **{missing: EMPTY})
    with pytest.raises(ValueError) as caught:
        split(data.train, data, schema.Given(), seed=0)
    message = "d: validation Given needs queries and a gallery; the data have none."
    assert str(caught.value) == message


def test_data_that_do_not_allow_a_split_are_refused() -> None:
    one = images([0, 0, 0])
    with pytest.raises(ValueError, match="a split by class needs at least 2 classes. Received 1."):
        split(one, WHOLE, schema.ClassBlock(), seed=0)
    with pytest.raises(
        ValueError,
        match="num_folds must lie between 2 and the number of images, 3",
    ):
        split(one, WHOLE, schema.StratifiedFolds(folds=5), seed=0)
    with pytest.raises(ValueError, match="a split by class needs labels"):
        split(ImageList(["a"], ["a.jpg"]), WHOLE, schema.ClassBlock(), seed=0)


@pytest.mark.parametrize("kind", [schema.ClassBlock(share=0.5), schema.StratifiedFolds(folds=2)])
def test_what_a_run_held_back_stays_held_back_though_files_came_or_went(
    kind: schema.Validation,
) -> None:
    first = split(WHOLE.train, WHOLE, kind, seed=3)
    trained, dev = (
        set(first.train.ids),
        set(first.query.ids) | set(first.gallery.ids) - set(first.train.ids),
    )
    for gone in range(len(WHOLE.train)):
        fewer = WHOLE.train.take([row for row in range(8) if row != gone])
        parts = split(fewer, WHOLE, kind, 3, first.held_out)
        assert set(parts.train.ids) == trained & set(fewer.ids)
        assert set(parts.query.ids) <= dev and parts.what == first.what
    more = images([0, 0, 1, 1, 2, 2, 3, 3, 0, 1])
    parts = split(more, WHOLE, kind, 3, first.held_out)
    assert trained <= set(parts.train.ids) and not trained & set(parts.query.ids)


def test_other_data_have_nothing_that_a_run_held_back_and_are_split_anew() -> None:
    kind = schema.ClassBlock(share=0.5)
    parts = split(WHOLE.train, WHOLE, kind, 3, ("x", "y"))
    assert parts.held_out == split(WHOLE.train, WHOLE, kind, 3).held_out


# --- evaluation lists


def test_the_datas_own_queries_come_first() -> None:
    query, gallery, what = evaluation_lists(WHOLE, schema.ClassBlock(share=0.5), seed=0)
    assert query is WHOLE.query and gallery is WHOLE.gallery
    assert what == "queries and gallery of the data"


def test_without_queries_the_runs_validation_split_is_searched() -> None:
    validation = schema.ClassBlock(share=0.5)
    query, gallery, what = evaluation_lists(ONLY_TRAIN, validation, seed=0)
    _, dev = split_classes(WHOLE.train, 0.5, "block", 0)
    assert set(query.ids) | set(gallery.ids) == set(dev.ids)
    assert what == "dev split (block, 0.5 of the classes)"


def test_the_validation_split_is_what_the_run_held_back() -> None:
    held_out = ("d", "a")
    query, gallery, _ = evaluation_lists(ONLY_TRAIN, schema.ClassBlock(share=0.5), 0, held_out)
    assert {*query.labels.tolist(), *gallery.labels.tolist()} == {0, 3}


@pytest.mark.parametrize("validation", [None, schema.Given()])
def test_without_a_split_each_image_is_searched_in_all_others(
    validation: schema.Validation | None,
) -> None:
    query, gallery, what = evaluation_lists(ONLY_TRAIN, validation, seed=0)
    assert query is gallery is ONLY_TRAIN.train
    assert what == "each training image against all others"


@pytest.mark.parametrize(("missing", "which"), [("query", "query"), ("gallery", "gallery")])
def test_queries_without_a_gallery_are_refused(missing: str, which: str) -> None:
    with pytest.raises(ValueError) as caught:
        evaluation_lists(dataclasses.replace(WHOLE, **{missing: EMPTY}), schema.ClassBlock(), 0)
    remedy = "add them, or give class folders alone."
    assert str(caught.value) == f"d: the data have no {which} images; {remedy}"


# --- content


def test_the_digest_of_images_is_of_content_and_labels_and_not_of_names(tmp_path: Path) -> None:
    def listed(names: list[str], labels: list[int] | None, contents: list[str]) -> ImageList:
        for name, content in zip(names, contents, strict=True):
            (tmp_path / name).write_text(content)
        return ImageList(names, [str(tmp_path / name) for name in names], labels)

    first = content_of(listed(["a", "b"], [0, 1], ["x", "y"]))
    assert content_of(listed(["c", "d"], [0, 1], ["x", "y"])) == first and len(first) == 12
    others = [([0, 1], ["x", "z"]), ([0, 0], ["x", "y"]), (None, ["x", "y"]), ([0, 1], ["y", "x"])]
    digests = {content_of(listed(["e", "f"], labels, contents)) for labels, contents in others}
    assert len(digests | {first}) == 5


def test_held_out_classes_of_one_image_have_nothing_to_find() -> None:
    apart = DataSet("d", images([0, 1, 2, 3]), EMPTY, EMPTY, ("a", "b", "c", "d"))
    message = r"d: no held-out class has two images: nothing to find\. Pass data with queries\."
    with pytest.raises(ValueError, match=message):
        evaluation_lists(apart, schema.ClassBlock(share=0.5), seed=0)
