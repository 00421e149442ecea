"""Split a labelled list of images: into classes, into queries and gallery, into folds."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_io.records import ImageList

MOST_ALIKE = 1000
"""Images of a class that `folds_of_alike` compares; a cluster tree of n images takes n * n time."""


def split_classes(
    images: ImageList, dev_share: float, is_block: bool = True, seed: int = 0
) -> tuple[ImageList, ImageList]:
    """Split into two lists without a common class.

    A block is contiguous in label order; the seed decides where it starts. Neighbours in a data set
    are similar (the same shelf, the same day). Random classes leave a similar class of each dev
    class in training, so the dev mAP is too high. Only with a block did the dev mAP agree with the
    test mAP (third place of the NAVER AI Hackathon 2018).

    Images keep their order. Skipped files stay with the training list.

    Args:
        images: labelled images.
        dev_share: share of the classes in the dev list, 0..1; each list gets at least one class.
        is_block: whether the dev classes are one block; otherwise they are drawn one by one.
        seed: seed of the random choice.

    Returns:
        (train, dev).

    Raises:
        ValueError: there are no labels, or fewer than two classes.
    """
    labels = images.known_labels("a split by class")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError(
            f"a split by class needs at least 2 classes. Received {len(classes)}. "
            "Check the labels of the data."
        )
    num_dev = int(np.clip(round(dev_share * len(classes)), 1, len(classes) - 1))
    rng = np.random.default_rng(seed)
    if is_block:
        start = rng.integers(len(classes) - num_dev + 1)
        dev_classes = classes[start : start + num_dev]
    else:
        dev_classes = rng.choice(classes, num_dev, replace=False)
    return divide(images, np.isin(labels, dev_classes))


def query_and_gallery(
    images: ImageList, max_queries: int, max_gallery_per_class: int, seed: int = 0
) -> tuple[ImageList, ImageList]:
    """Split a dev list into queries and a gallery without a common image.

    Classes give one query image each, in turns, until there are `max_queries`. Each class keeps at
    least half of its images (rounded up) for the gallery. A class of one image is only in the
    gallery. The seed decides which images, and which classes if `max_queries` is too small for all.

    Images keep their order. Skipped files stay with the gallery.

    Args:
        images: labelled images.
        max_queries: largest number of queries.
        max_gallery_per_class: largest number of gallery images of a class.
        seed: seed of the random choice.

    Returns:
        (query, gallery).

    Raises:
        ValueError: there are no labels, a limit is below 1, or no class has two images.
    """
    labels = images.known_labels("a query and gallery split")
    if max_queries < 1 or max_gallery_per_class < 1:
        raise ValueError(
            "the limits must be at least 1. "
            f"Received {max_queries} queries, {max_gallery_per_class} per class."
        )
    rng = np.random.default_rng(seed)
    classes = rng.permutation(np.unique(labels))
    rows_of_class = [rng.permutation(np.flatnonzero(labels == label)) for label in classes]
    num_turns = max((len(rows) // 2 for rows in rows_of_class), default=0)
    if num_turns == 0:
        raise ValueError(
            "no class has two images: nothing to search and to find. "
            "Hold out more classes (in a recipe validation.share)."
        )
    query_rows = [
        rows[turn] for turn in range(num_turns) for rows in rows_of_class if turn < len(rows) // 2
    ]
    is_query = np.zeros(len(images), bool)
    is_query[query_rows[:max_queries]] = True
    gallery_rows = [rows[~is_query[rows]][:max_gallery_per_class] for rows in rows_of_class]
    gallery = images.take(np.sort(np.concatenate(gallery_rows)))
    return images.take(is_query, skipped=()), gallery


def few_of_each_class(
    images: ImageList, max_images: int, max_per_class: int, seed: int = 0
) -> ImageList:
    """Draw images to search in each other: whole classes in random order, few images of each.

    A class of one image is left out: there is nothing to find. Images keep their order.

    Args:
        images: labelled images.
        max_images: no further class is taken if there would be more; the first two always are.
        max_per_class: largest number of images of a class, at least 2; they are drawn.
        seed: seed of the random choice.

    Returns:
        The images.

    Raises:
        ValueError: there are no labels, or fewer than two classes have two images.
    """
    labels = images.known_labels("a search by class")
    rng = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    for label in rng.permutation(np.unique(labels)):
        rows = np.flatnonzero(labels == label)
        rows = rng.permutation(rows)[:max_per_class]
        if len(rows) < 2:
            continue
        if len(chosen) >= 2 and sum(map(len, chosen)) + len(rows) > max_images:
            break
        chosen.append(rows)
    if len(chosen) < 2:
        raise ValueError(
            "a search by class needs at least 2 classes with two or more images each. "
            f"Received {len(chosen)}. Check the labels of the data."
        )
    return images.take(np.sort(np.concatenate(chosen)), skipped=())


def stratified_folds(
    images: ImageList, num_folds: int, seed: int, keep_single: bool = False
) -> list[tuple[ImageList, ImageList]]:
    """Split into folds, each class over the folds as evenly as possible.

    A class of two or more images is in every training list.

    Args:
        images: labelled images.
        num_folds: number of folds.
        seed: seed of the order of the images in a class.
        keep_single: leave the image of a class that has only one in every training list.

    Returns:
        For each fold (train, dev); each image is in one dev list, unless it is kept.

    Raises:
        ValueError: there are no labels, fewer than 2 folds, or more folds than images.
    """
    labels = images.known_labels("a split into folds")
    classes, counts = np.unique(labels, return_counts=True)
    divided = classes[counts > 1] if keep_single else classes
    num_divided = int(np.isin(labels, divided).sum())
    if not 2 <= num_folds <= num_divided:
        what = "images of classes with two or more" if keep_single else "images"
        raise ValueError(
            f"the number of folds must be between 2 and the number of {what}, {num_divided}. "
            f"Received {num_folds}."
        )
    rng = np.random.default_rng(seed)
    rows_of_class = [rng.permutation(np.flatnonzero(labels == label)) for label in divided]
    # Folds continue from class to class, so that small classes do not all go to fold 0.
    fold_of = np.full(len(images), -1)
    fold_of[np.concatenate(rows_of_class)] = np.arange(num_divided) % num_folds
    return [divide(images, fold_of == fold) for fold in range(num_folds)]


def folds_of_alike(
    embeddings: np.ndarray, labels: np.ndarray, num_folds: int, seed: int
) -> np.ndarray:
    """Divide each class into folds so that images that are alike are in one fold.

    In most data, photographs of one place and minute are in a class together. With random folds,
    nearly every image has such a neighbour outside its fold, which a new photograph does not have.
    Here the images of a class are put in the order of a cluster tree (Ward 1963, the order of its
    leaves) and cut into equal blocks.

    Args:
        embeddings: float [N, D], unit length.
        labels: int [N].
        num_folds: number of folds; a class of fewer images misses some of them.
        seed: seed of the images that are left out of a class of more than MOST_ALIKE.

    Returns:
        int64 [N], the fold of each image, from 0; -1 for one that is left out.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage  # takes a moment to import

    fold_of = np.full(len(labels), -1, np.int64)
    rng = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) > MOST_ALIKE:
            rows = np.sort(rng.choice(rows, MOST_ALIKE, replace=False))
        if len(rows) > 2:
            rows = rows[leaves_list(linkage(embeddings[rows], "ward"))]
        fold_of[rows] = np.arange(len(rows)) * num_folds // len(rows)
    return fold_of


def dense_labels(images: ImageList) -> tuple[ImageList, np.ndarray]:
    """Renumber the labels to 0..C-1, as a classifier needs them.

    Args:
        images: labelled images.

    Returns:
        The list with new labels, and the original label of each new one, int64 [C].

    Raises:
        ValueError: the images have no labels.
    """
    originals, dense = np.unique(images.known_labels("a classifier"), return_inverse=True)
    return dataclasses.replace(images, labels=dense), originals


def divide(images: ImageList, in_dev: np.ndarray) -> tuple[ImageList, ImageList]:
    """Split by a mask; skipped files stay with the training list.

    Args:
        images: N images.
        in_dev: bool [N].

    Returns:
        (train, dev).
    """
    return images.take(~in_dev), images.take(in_dev, skipped=())
