"""Choose the labelled queries on which the way to give labels is chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_io.files.contents import contents_of
from data_io.records import GlobalFeatures, ImageList
from data_io.splits import folds_of_alike
from delf_ext.app.label_scores import Classes, Evidence, collect, joined
from delf_ext.app.trained_on import trainings_of
from delf_ext.config import UsageError
from delf_ext.features.embedder import Adapted, AnyEmbedder, HeldBack
from delf_ext.features.logits import Logits, networks_of
from delf_ext.features.reductions.build import fit_reduction
from delf_ext.index.failed import usable

NUM_FOLDS = 3
SCORES_IN_MEMORY = 2 * 10**7
"""Largest number of queries times classes."""
FEWEST_HELD_OUT = 20
"""Photographs of the gallery that the network was not trained on, to choose on them alone."""

LogitsOfRows = Callable[[np.ndarray], Logits]
"""Rows of the gallery -> the logits of these images."""


@dataclass(frozen=True, eq=False)
class Gallery:
    """Labelled gallery before the head of the model, and what the networks saw of it.

    Attributes:
        images: G labelled images.
        names: names of the C classes.
        labels: int64 [G], from 0 to C - 1.
        features: embeddings [G, D] without the head.
        seen: bool [G], a network was trained on the image.
        head_saw: bool [G], a network or a head saw the image; all that a network saw count for a
            head.
        fixed_head_saw: the same without the head of the model itself, if that can be fitted again.
    """

    images: ImageList
    names: tuple[str, ...]
    labels: np.ndarray
    features: GlobalFeatures
    seen: np.ndarray
    head_saw: np.ndarray
    fixed_head_saw: np.ndarray

    @property
    def held_out(self) -> np.ndarray:
        """Rows, int64 [n], that no network saw, of classes with images that it was trained on."""
        trained = np.unique(self.labels[self.seen])
        return np.flatnonzero(~self.seen & np.isin(self.labels, trained))


@dataclass(frozen=True, eq=False)
class Choosing:
    """Labelled queries to choose on.

    Attributes:
        evidence: of Q queries.
        labels: int64 [Q], their classes.
        description: what they are, for the log.
        warning: why the figures on them are too high; "" if they are not.
        trusts_logits: the logits can be judged on them.
    """

    evidence: Evidence
    labels: np.ndarray
    description: str
    warning: str = ""
    trusts_logits: bool = True


def gallery_of(
    model: AnyEmbedder, images: ImageList, class_names: Sequence[str], features: GlobalFeatures
) -> Gallery:
    """Describe a labelled gallery; images whose embedding failed are left out.

    Args:
        model: the model.
        images: labelled images with an embedding.
        class_names: name of each label.
        features: their embeddings without the head.

    Returns:
        The gallery.

    Raises:
        ValueError: there are fewer than two classes.
    """
    images = images.take(~features.failed)
    originals, labels = np.unique(images.known_labels("classify"), return_inverse=True)
    if len(originals) < 2:
        name = class_names[originals[0]] if len(originals) else "none"
        raise ValueError(
            f"the gallery has {len(originals)} class ({name}): classify chooses between at least "
            "two. Add labelled photographs of other classes."
        )
    contents = contents_of(images.paths.tolist())

    def is_in(trainings: Sequence[HeldBack]) -> np.ndarray:
        known = [one.photographs for one in trainings if one.photographs is not None]
        trained = {content for one in known for content in one.class_of_trained}
        return np.array([content in trained for content in contents], bool)

    is_fitted_again = isinstance(model, Adapted) and model.reduction is not None
    return Gallery(
        images,
        tuple(class_names[label] for label in originals),
        labels,
        usable(features),
        is_in([network.held_back for network in networks_of(model)]),
        is_in(trainings_of(model)),
        is_in(trainings_of(model.base if is_fitted_again else model)),  # type: ignore[union-attr]
    )


def choose_split(gallery: Gallery, choose_on: str) -> str:
    """Return which images to choose on.

    Args:
        gallery: the labelled gallery.
        choose_on: one of CHOOSE_ON; "auto" takes photographs that the network held out of its
            training, if there are enough, else the gallery.

    Returns:
        "gallery", "held_out" or "queries".

    Raises:
        UsageError: no photograph of the gallery was held out, and `choose_on` asks for them.
    """
    num_held_out = len(gallery.held_out)
    if choose_on == "held_out" and not num_held_out:
        raise UsageError(
            "--choose_on=held_out: the gallery has no photograph that the run held out of its "
            "training, of a class that it was trained on. Train with validation.type="
            "StratifiedFolds, or pass --choose_on=gallery or --choose_on=queries."
        )
    if choose_on == "auto":
        return "held_out" if num_held_out >= FEWEST_HELD_OUT else "gallery"
    return choose_on


def on_held_out(
    model: AnyEmbedder, gallery: Gallery, k: int, logits_of: LogitsOfRows | None, seed: int
) -> Choosing:
    """Search the photographs that the network held out in the others.

    Args:
        model: gives the head.
        gallery: the labelled gallery.
        k: number of nearest images.
        logits_of: logits of gallery images; None without a classifier.
        seed: seed of the choice, if there are too many.

    Returns:
        The queries to choose on.
    """
    is_query = np.isin(np.arange(len(gallery.labels)), gallery.held_out)
    evidence, rows = _of_fold(model, gallery, is_query, k, logits_of, seed, 1)
    description = f"{len(rows)} photographs of the gallery that the network was not trained on"
    return Choosing(evidence, gallery.labels[rows], description, _optimism(gallery, rows))


def on_gallery(
    model: AnyEmbedder, gallery: Gallery, k: int, logits_of: LogitsOfRows | None, seed: int
) -> Choosing | None:
    """Search each fold of the gallery in the others; a head is fitted again without the fold.

    Photographs of a class that are alike are in one fold, see `folds_of_alike`.

    Args:
        model: gives the head.
        gallery: the labelled gallery.
        k: number of nearest images.
        logits_of: logits of gallery images; None without a classifier.
        seed: seed of the folds.

    Returns:
        The queries to choose on; None if each class has one photograph.
    """
    contents = contents_of(gallery.images.paths.tolist())
    first_of = {content: row for row, content in reversed(list(enumerate(contents)))}
    # A copy in another fold would make it too easy.
    kept = np.array(sorted(first_of.values()))
    counts = np.bincount(gallery.labels[kept], minlength=len(gallery.names))
    if counts.max() < 2:
        return None
    num_folds = int(np.clip(np.median(counts[counts > 1]), 2, NUM_FOLDS))
    fold_of = np.full(len(contents), -1)
    fold_of[kept] = folds_of_alike(
        gallery.features.embeddings[kept], gallery.labels[kept], num_folds, seed
    )
    parts = []
    labels = []
    for number in range(num_folds):
        part = _of_fold(
            model,
            gallery,
            fold_of == number,
            k,
            logits_of,
            seed + number,
            num_folds,
            left_out=fold_of == -1,
        )
        parts.append(part[0])
        labels.append(gallery.labels[part[1]])
    return Choosing(
        joined(parts),
        np.concatenate(labels),
        f"{num_folds} folds of the gallery ({sum(map(len, labels))} photographs)",
        _optimism(gallery, kept),
        trusts_logits=not gallery.seen.any(),
    )


def _optimism(gallery: Gallery, rows: np.ndarray) -> str:
    """Return why figures on photographs of the gallery are too high, or ""."""
    who = ""
    if gallery.seen[rows].any():
        who = "the network was trained"
    elif gallery.fixed_head_saw[rows].any():
        who = "a head was fitted"
    if not who:
        return ""
    return (
        f"{who} on these photographs, so figures and probabilities on them are too high. Choose on "
        "photographs that it has not seen: --choose_on=queries, or a run with "
        "validation=StratifiedFolds"
    )


def _of_fold(
    model: AnyEmbedder,
    gallery: Gallery,
    is_query: np.ndarray,
    k: int,
    logits_of: LogitsOfRows | None,
    seed: int,
    num_folds: int,
    left_out: np.ndarray | bool = False,
) -> tuple[Evidence, np.ndarray]:
    """Return the evidence of queries that are searched in the other images, and their rows."""
    others = np.flatnonzero(~is_query & ~np.asarray(left_out))
    # A class without an image among the others cannot be found.
    queries = np.flatnonzero(is_query & np.isin(gallery.labels, gallery.labels[others]))
    largest = max(1, SCORES_IN_MEMORY // len(gallery.names) // num_folds)
    if len(queries) > largest:
        queries = np.sort(np.random.default_rng(seed).choice(queries, largest, replace=False))
    query = gallery.features.take(queries)
    fold = Classes(gallery.names, gallery.features.take(others), gallery.labels[others])
    if isinstance(model, Adapted):
        again = _fitted_again(model, gallery, others)
        query = again.projected(query)
        fold = Classes(fold.names, again.projected(fold.features), fold.labels)
    logits = None if logits_of is None else logits_of(queries)
    return collect(query, fold, k, logits), queries


def _fitted_again(model: Adapted, gallery: Gallery, rows: np.ndarray) -> Adapted:
    """Fit the head on some of the images, if it is known how and it was fitted on the others."""
    if model.reduction is None or not gallery.head_saw.any():
        return model
    embeddings = gallery.features.embeddings[rows]
    projection = fit_reduction(model.reduction, embeddings, gallery.labels[rows])
    return replace(model, projection=projection)
