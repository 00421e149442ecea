"""Splits of a labelled ImageList: development classes, queries and gallery, folds."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_io.records import ImageList


def split_classes(
    images: ImageList, dev_percent: float, how: str = "block", seed: int = 0
) -> tuple[ImageList, ImageList]:
    """(train, dev) without a class in common. dev_percent: share of the classes in dev, 0..1; each side gets at least one.

    "block" takes one contiguous block of classes in label order, its start drawn from the seed: neighbours in a data set
    resemble each other (the same shelf, the same day), so classes picked at random leave a twin of each dev class in
    training, and dev mAP promises too much. Only with a block did it follow test mAP (third of the NAVER AI Hackathon 2018).
    "random" draws classes singly. Images keep their order; what was skipped stays with train.
    Raises: ValueError without labels, on fewer than two classes, or on a share outside 0..1.
    """
    labels = images.known_labels("a split by class")
    classes = np.unique(labels)
    if not 0 < dev_percent < 1:
        raise ValueError(
            f"dev_percent is a share of the classes between 0 and 1 (0.05 is 5 %). Received {dev_percent}."
        )
    if len(classes) < 2:
        raise ValueError(f"a split by class needs at least 2 classes. Received {len(classes)}.")
    num_dev = int(np.clip(round(dev_percent * len(classes)), 1, len(classes) - 1))
    rng = np.random.default_rng(seed)
    if how == "block":
        start = rng.integers(len(classes) - num_dev + 1)
        dev_classes = classes[start : start + num_dev]
    elif how == "random":
        dev_classes = rng.choice(classes, num_dev, replace=False)
    else:
        raise ValueError(f"how must be block or random. Received {how!r}.")
    return _divide(images, np.isin(labels, dev_classes))


def query_and_gallery(
    images: ImageList, max_queries: int, max_gallery_per_class: int, seed: int = 0
) -> tuple[ImageList, ImageList]:
    """(query, gallery) of a development list, without an image in common.

    Classes give query images in turn, one at a time, until there are max_queries; each keeps at least half of its images
    (rounded up) for the gallery, of which max_gallery_per_class are taken. A class of one image is gallery only: a distractor.
    Which images and, when max_queries is short, which classes is drawn from the seed; images keep their order, and what
    was skipped stays with the gallery.
    Raises: ValueError without labels, on a limit below 1, or when no class has two images.
    """
    labels = images.known_labels("a query and gallery split")
    if max_queries < 1 or max_gallery_per_class < 1:
        raise ValueError(
            f"the limits must be at least 1. Received {max_queries} queries, {max_gallery_per_class} per class."
        )
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(labels))
    members = [rng.permutation(np.flatnonzero(labels == label)) for label in classes]
    turns = max((len(rows) // 2 for rows in members), default=0)
    if turns == 0:
        raise ValueError(
            "no class has two images: nothing to search and to find. Hold out more classes (--dev_percent)."
        )
    query = [rows[turn] for turn in range(turns) for rows in members if turn < len(rows) // 2][
        :max_queries
    ]
    is_query = np.zeros(len(images), bool)
    is_query[query] = True
    gallery = [rows[~is_query[rows]][:max_gallery_per_class] for rows in members]
    return images.take(is_query, skipped=()), images.take(np.sort(np.concatenate(gallery)))


def k_fold(
    images: ImageList, num_folds: int, stratified: bool = False, seed: int = 0
) -> list[tuple[ImageList, ImageList]]:
    """num_folds pairs (train, dev); each image is in dev once.

    By default the folds are contiguous blocks of classes (see split_classes), so train and dev share no class; the seed is
    not used. stratified: every class is dealt out over the folds, as evenly as it divides, in an order drawn from the seed.
    Raises: ValueError without labels, on fewer than 2 folds, or on more folds than classes (stratified: than images).
    """
    labels = images.known_labels("k-fold")
    classes = np.unique(labels)
    parts, what = (len(images), "images") if stratified else (len(classes), "classes")
    if not 2 <= num_folds <= parts:
        raise ValueError(
            f"num_folds must lie between 2 and the number of {what}, {parts}. Received {num_folds}."
        )
    fold = np.zeros(len(images), np.int64)
    if stratified:
        rng = np.random.default_rng(seed)
        dealt = np.concatenate(
            [rng.permutation(np.flatnonzero(labels == label)) for label in classes]
        )
        fold[dealt] = (
            np.arange(len(images)) % num_folds
        )  # dealt on from class to class: small classes do not fill fold 0
    else:
        for number, block in enumerate(np.array_split(classes, num_folds)):
            fold[np.isin(labels, block)] = number
    return [_divide(images, fold == number) for number in range(num_folds)]


def dense_labels(images: ImageList) -> tuple[ImageList, np.ndarray]:
    """The list with labels 0..C-1, as a classifier needs them, and the original label of each, int64 [C].

    Raises: ValueError without labels.
    """
    originals, dense = np.unique(images.known_labels("dense labels"), return_inverse=True)
    return dataclasses.replace(images, labels=dense), originals


def _divide(images: ImageList, in_dev: np.ndarray) -> tuple[ImageList, ImageList]:
    return images.take(~in_dev), images.take(in_dev, skipped=())
