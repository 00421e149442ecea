"""Divide labelled images into folds, each of which asks the question that a head is chosen for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_io.records import ImageList
from data_io.splits import stratified_folds

NUM_FOLDS = 5
MIN_CLASSES = 4
"""Classes of two photographs from which some can be held out."""
FEWEST_PHOTOGRAPHS = 3
"""Photographs of a typical class from which some can be held out."""


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


def held_out_side(question: str, images: ImageList) -> str:
    """Return what to hold out: "photographs" of each class, or "classes".

    With fewer than FEWEST_PHOTOGRAPHS of a typical class, the others of the class are no longer
    typical if one is held out, and every head that looks at classes would seem bad (seen: two
    photographs of each product, true gain +.12 mAP). Then classes are held out, if there are
    enough.

    Args:
        question: "seen_classes" or "unseen_classes".
        images: labelled images.
    """
    counts = _counts(images)
    has_few = np.median(counts) < FEWEST_PHOTOGRAPHS and np.sum(counts >= 2) >= MIN_CLASSES
    return "classes" if question == "unseen_classes" or has_few else "photographs"


def _counts(images: ImageList) -> np.ndarray:
    """Return the number of images of each class."""
    labels = images.known_labels("mandoo adapt")
    return np.unique(labels, return_counts=True)[1]


def folds_for(
    side: str, images: ImageList, is_query: np.ndarray, seed: int, num_folds: int = NUM_FOLDS
) -> list[Fold]:
    """Divide labelled images into folds.

    "photographs": each fold holds out a share of the photographs of every class; they are
    searched in the others. "classes": each fold holds out a share of the classes; each of their
    photographs is searched in the other photographs of the held-out classes.

    Args:
        side: what is held out: "photographs" or "classes".
        images: N labelled images.
        is_query: bool [N], images that may be queries.
        seed: seed of the random choice.
        num_folds: number of folds; fewer if there are too few classes, or photographs of a class.

    Returns:
        The folds that have a query.

    Raises:
        ValueError: there are too few classes, or no class has two images.
    """
    labels = images.known_labels("mandoo adapt")
    counts = _counts(images)
    if side == "photographs":
        held_out = _of_photographs(images, counts, seed, num_folds)
    else:
        held_out = _of_classes(labels, counts, seed, num_folds)
    folds = []
    for is_held_out in held_out:
        fit = np.flatnonzero(~is_held_out)
        query = np.flatnonzero(is_held_out & is_query)
        gallery = fit if side == "photographs" else np.flatnonzero(is_held_out)
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
    # As many folds as photographs: each class loses one, and the others stay alike.
    num_folds = int(np.clip(np.median(counts), 2, num_folds))
    splits = stratified_folds(images, num_folds, seed)
    return [np.isin(images.ids, dev.ids) for _, dev in splits]


def _of_classes(
    labels: np.ndarray, counts: np.ndarray, seed: int, num_folds: int
) -> list[np.ndarray]:
    # Each fold searches in at least two classes, and is fitted on others.
    if np.sum(counts >= 2) < MIN_CLASSES:
        raise ValueError(
            "adapt --for=unseen_classes holds back some products and fits on the others: it needs "
            f"at least {MIN_CLASSES} classes with two photographs. Received {np.sum(counts >= 2)}. "
            "--for=seen_classes needs 2."
        )
    rng = np.random.default_rng(seed)
    # Classes of one photograph are dealt last: each fold gets classes that can be found.
    order = rng.permutation(len(counts))
    order = np.concatenate([order[counts[order] >= 2], order[counts[order] < 2]])
    # A search in few classes is easy: hold out at least five at a time, if there are ten.
    num_folds = int(np.clip(np.sum(counts >= 2) // 5, 2, num_folds))
    classes = np.unique(labels)
    return [np.isin(labels, classes[order[fold::num_folds]]) for fold in range(num_folds)]
