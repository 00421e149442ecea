"""Test which head is chosen from the average precisions of all candidates."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from data_io.directions import directions
from data_io.records import ImageList
from delf_ext.app.head_choice import (
    LDA,
    NO_HEAD,
    WITHIN,
    Choice,
    _chosen,
    choose_head,
    shown_settings,
)
from delf_ext.app.head_folds import folds_for
from delf_ext.evaluation.hits import Hits
from delf_ext.recipes import schema
from delf_ext.recipes.adapted_parts import LinearReduction

NUM_FOLDS = 2
NUM_QUERIES = 20
FIRST, SECOND = schema.WithinClassWhitening(0.1), schema.WithinClassWhitening(0.3)


def hits(fold: int, place: int, others: int = 0) -> Hits:
    """Return hits with the one relevant image at `place`; every fifth query has it at `others`."""
    ids = np.array([f"fold{fold}-{row}" for row in range(NUM_QUERIES)])
    places = [others if row % 5 == 0 else place for row in range(NUM_QUERIES)]
    ones = np.ones(NUM_QUERIES, np.int64)
    positions = tuple(np.array([one]) for one in places)
    return Hits(ids, positions, ones, 50 * ones, 50 * ones)


def chosen(
    places: Mapping[LinearReduction | None, tuple[tuple[int, int], ...]],
    gallery_is_fitted: bool = False,
) -> Choice:
    """Choose from (place, place of every fifth query) in each fold."""
    both: dict[str, list[LinearReduction]] = {WITHIN: [], LDA: []}
    for one in places:
        if one is not None:
            both[LDA if isinstance(one, schema.Lda) else WITHIN].append(one)
    kinds = {kind: candidates for kind, candidates in both.items() if candidates}
    every = {one: [hits(f, *p) for f, p in enumerate(parts)] for one, parts in places.items()}
    return _chosen(kinds, every, 0, gallery_is_fitted)


def test_figures_of_a_kind_are_of_settings_that_the_queries_have_not_chosen() -> None:
    # Each setting is perfect in one fold only, so each fold is given the other's failure.
    choice = chosen({None: ((1, 1), (1, 1)), FIRST: ((0, 0), (9, 9)), SECOND: ((9, 9), (0, 0))})
    assert choice.rows[1].mean_average_precision == pytest.approx(0.1)
    assert choice.kind == NO_HEAD and choice.reduction is None
    assert choice.title(NO_HEAD) == "no head"


@pytest.mark.parametrize(
    ("within", "lda", "kind"),
    [
        (((0, 0), (0, 0)), ((4, 4), (4, 4)), WITHIN),
        # As good as LDA but for a few queries: a paired test finds no difference.
        (((1, 0), (1, 1)), ((1, 1), (1, 1)), LDA),
        # LDA is not better than no head.
        (((1, 0), (1, 1)), ((3, 3), (3, 3)), WITHIN),
        (((3, 3), (3, 3)), ((3, 3), (3, 3)), NO_HEAD),
    ],
)
def test_lda_is_chosen_if_it_is_as_good_as_whitening(
    within: tuple[tuple[int, int], ...], lda: tuple[tuple[int, int], ...], kind: str
) -> None:
    choice = chosen({None: ((3, 3), (3, 3)), FIRST: within, schema.Lda(0.1): lda})
    assert choice.kind == kind


def test_no_head_is_chosen_that_only_pulls_the_gallery_together_by_labels_at_random() -> None:
    rng = np.random.default_rng(8)
    vectors = directions(rng.standard_normal((200, 48)))
    images = ImageList(np.arange(200).astype(str), np.arange(200).astype(str), np.arange(200) % 20)
    folds = folds_for("photographs", images, np.ones(200, bool), 0)
    choice = choose_head(images.ids, vectors, images.known_labels("a test"), folds, 0)
    gap = choice.row(LDA).difference
    # The average precision alone would choose LDA.
    assert gap is not None and gap.mean > 0 and gap.p_value < 0.0125
    assert LDA not in choice.near and choice.kind == NO_HEAD


@pytest.mark.parametrize(("gallery_is_fitted", "kind"), [(False, WITHIN), (True, NO_HEAD)])
def test_a_head_on_a_fitted_gallery_must_move_the_mean_place(
    gallery_is_fitted: bool, kind: str
) -> None:
    # Four of five queries gain three places, the fifth loses twelve: the mean stays.
    places = {None: ((3, 3), (3, 3)), FIRST: ((0, 15), (0, 15))}
    assert chosen(places, gallery_is_fitted).kind == kind


def test_photographs_of_the_class_and_camera_of_the_query_do_not_count() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 8)
    cameras = np.tile(["a", "a", "a", "a", "b", "b", "b", "b"], 5)
    # A photograph looks like those of its camera and class, and like nothing else.
    views = rng.standard_normal((10, 16))[np.arange(40) // 4]
    vectors = directions(views + 0.1 * rng.standard_normal((40, 16)))
    images = ImageList(np.arange(40).astype(str), np.arange(40).astype(str), labels)
    folds = folds_for("classes", images, np.ones(40, bool), 0)
    every = choose_head(images.ids, vectors, labels, folds, 0)
    others = choose_head(images.ids, vectors, labels, folds, 0, junk_groups=cameras)
    assert every.rows[0].recall_at_1 == 1
    query = vectors[(labels == 0) & (cameras == "a")]
    assert len(query) == 4 and others.rows[0].recall_at_1 < 0.7


def test_settings_are_shown_with_their_names() -> None:
    assert shown_settings(schema.PcaWhitening(64, 0.3)) == "dims 64, shrinkage 0.3"
    assert shown_settings(schema.Lda(0.0)) == "shrinkage 0"
