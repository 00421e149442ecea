"""Divide labelled images into folds, each of which asks the question that a head is chosen for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_io.records import ImageList
from data_io.splits import stratified_folds

NUM_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows of the labelled images; queries and gallery may share rows.

    Attributes:
        fit: int [n], rows that a head is fitted on.
        query: int [Q], rows to search with; none of them is in `fit`.
        gallery: int [G], rows to search in.
    """

    fit: np.ndarray
    query: np.ndarray
    gallery: np.ndarray


def folds_for(
    question: str, images: ImageList, is_query: np.ndarray, seed: int, num_folds: int = NUM_FOLDS
) -> list[Fold]:
    """Divide labelled images into folds.

    "seen_classes": each fold holds out a share of the photographs of every class; they are
    searched in the others. "unseen_classes": each fold holds out a share of the classes; each of
    their photographs is searched in the other photographs of the held-out classes.

    Args:
        question: "seen_classes" or "unseen_classes".
        images: N labelled images.
        is_query: bool [N], images that may be queries.
        seed: seed of the random choice.
        num_folds: number of folds; fewer if there are too few classes.

    Returns:
        The folds that have a query.

    Raises:
        ValueError: there are too few classes, or no class has two images.
    """
    labels = images.known_labels("mandoo adapt")
    counts = np.unique(labels, return_counts=True)[1]
    if question == "seen_classes":
        held_out = _of_photographs(images, counts, seed, num_folds)
    else:
        held_out = _of_classes(labels, counts, seed, num_folds)
    folds = []
    for is_held_out in held_out:
        fit = np.flatnonzero(~is_held_out)
        query = np.flatnonzero(is_held_out & is_query)
        gallery = fit if question == "seen_classes" else np.flatnonzero(is_held_out)
        if len(query):
            folds.append(Fold(fit, query, gallery))
    return folds


def _of_photographs(
    images: ImageList, counts: np.ndarray, seed: int, num_folds: int
) -> list[np.ndarray]:
    if len(counts) < 2:
        raise ValueError("adapt needs photographs of at least 2 products (classes). Received 1.")
    if counts.max() < 2:
        raise ValueError(
            f"each of the {len(counts)} classes has one photograph: adapt needs at least two "
            "photographs of some products, to hold one back and search for it."
        )
    splits = stratified_folds(images, min(num_folds, len(images)), seed)
    return [np.isin(images.ids, dev.ids) for _, dev in splits]


def _of_classes(
    labels: np.ndarray, counts: np.ndarray, seed: int, num_folds: int
) -> list[np.ndarray]:
    # Each fold needs two classes to tell apart, and others to fit on.
    if np.sum(counts >= 2) < 4:
        raise ValueError(
            "adapt --for=unseen_classes holds back some products and fits on the others: it needs "
            f"at least 4 classes with two photographs. Received {np.sum(counts >= 2)}. "
            "--for=seen_classes needs 2."
        )
    rng = np.random.default_rng(seed)
    # Classes of one photograph are dealt last: each fold gets classes that can be found.
    order = rng.permutation(len(counts))
    order = np.concatenate([order[counts[order] >= 2], order[counts[order] < 2]])
    num_folds = min(num_folds, int(np.sum(counts >= 2)) // 2)
    classes = np.unique(labels)
    return [np.isin(labels, classes[order[fold::num_folds]]) for fold in range(num_folds)]
