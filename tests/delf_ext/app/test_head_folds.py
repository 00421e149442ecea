"""Test the folds in which heads are judged: what is held out, and what may be a query."""

from __future__ import annotations

import numpy as np
import pytest

from data_io.records import ImageList
from delf_ext.app.head_folds import Fold, folds_for, held_out_side

QUESTIONS = ("seen_classes", "unseen_classes")


def images_of(counts: list[int]) -> ImageList:
    """Return a list with so many images of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    ids = np.array([f"image{row}" for row in range(len(labels))])
    return ImageList(ids, ids, labels)


def folds_of(side: str, counts: list[int], is_query: np.ndarray | None = None) -> list[Fold]:
    images = images_of(counts)
    return folds_for(side, images, np.ones(len(images), bool) if is_query is None else is_query, 0)


def test_each_photograph_is_a_query_once_and_searched_in_what_was_fitted() -> None:
    folds = folds_of("photographs", [5, 7, 6])
    assert sorted(np.concatenate([fold.query for fold in folds])) == list(range(18))
    labels = images_of([5, 7, 6]).labels
    for fold in folds:
        assert not set(fold.query) & set(fold.fit)
        assert fold.gallery.tolist() == fold.fit.tolist()
        # Every class is fitted.
        assert labels is not None and set(labels[fold.fit]) == {0, 1, 2}


def test_held_out_classes_are_not_fitted_and_are_their_own_gallery() -> None:
    counts = [4] * 20
    labels = images_of(counts).labels
    assert labels is not None
    folds = folds_of("classes", counts)
    assert len(folds) == 4
    assert sorted(np.concatenate([fold.query for fold in folds])) == list(range(80))
    for fold in folds:
        assert not set(labels[fold.fit]) & set(labels[fold.query])
        assert fold.gallery.tolist() == fold.query.tolist()


@pytest.mark.parametrize("side", ["photographs", "classes"])
def test_only_some_images_may_be_queries(side: str) -> None:
    is_query = np.arange(40) < 4
    folds = folds_of(side, [4] * 10, is_query)
    assert sorted(np.concatenate([fold.query for fold in folds])) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("counts", "sides"),
    [
        ([5] * 6, ("photographs", "classes")),
        ([2] * 6, ("classes", "classes")),
        # Too few classes to hold some out.
        ([2] * 3, ("photographs", "classes")),
        ([1] * 9 + [2] * 4, ("classes", "classes")),
    ],
)
def test_few_photographs_of_each_class_hold_classes_out(
    counts: list[int], sides: tuple[str, ...]
) -> None:
    assert tuple(held_out_side(question, images_of(counts)) for question in QUESTIONS) == sides


def test_as_many_folds_as_photographs_of_a_class() -> None:
    assert [len(folds_of("photographs", [number] * 5)) for number in (2, 3, 4, 9)] == [2, 3, 4, 5]
