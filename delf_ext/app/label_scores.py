"""Score the classes of a labelled gallery for each query, from neighbours, centres and logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from data_io.directions import directions
from data_io.records import GlobalFeatures
from data_io.tables.spelling import spelling_key
from delf_ext.evaluation.calibration import first_places, normalized
from delf_ext.features.logits import Logits
from delf_ext.features.reductions.scatter import class_sums
from delf_ext.index.exact import search
from delf_ext.recipes.label_parts import Labelling
from delf_ext.recipes.schema import LabelVote

NUM_FIRST = 5
"""Classes of the classifier whose logits count in a vote of the Lotte winner."""
OTHER_LOGIT = 1e-8
"""Logit of all other classes in that vote."""
LEAST_SIMILARITY = 1e-6


@dataclass(frozen=True, eq=False)
class Classes:
    """Labelled gallery of C classes.

    Attributes:
        names: name of each class.
        features: embeddings of the G images.
        labels: int64 [G], from 0 to C - 1.
    """

    names: tuple[str, ...]
    features: GlobalFeatures
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> Classes:
        """Return the gallery with some of its images; a class may lose all of them.

        Args:
            rows: int [n], or a mask bool [G].

        Returns:
            The smaller gallery, with the same C classes.
        """
        return Classes(self.names, self.features.take(rows), self.labels[rows])

    @cached_property
    def sums(self) -> np.ndarray:
        """Sum of the embeddings of each class, float64 [C, D]."""
        return class_sums(self.features.embeddings, self.labels, len(self.names))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What says the class of Q queries.

    Attributes:
        similarities: float32 [Q, k] of the nearest gallery images, nearest first.
        labels: int64 [Q, k], classes of these images; -1 pads.
        centres: float32 [Q, C], cosine with the mean embedding of each class; -1 without images.
        first_logits: float32 [Q, C], mean logit of the first classes of the classifier; NaN for
            all others. None without a classifier.
        log_softmax: float32 [Q, C], logarithm of the probability by the classifier; very low for
            a class that it does not have. None without a classifier.
    """

    similarities: np.ndarray
    labels: np.ndarray
    centres: np.ndarray
    first_logits: np.ndarray | None = None
    log_softmax: np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Evidence:
        """Return the evidence of some of the queries.

        Args:
            rows: int [n], or a mask bool [Q].

        Returns:
            The evidence of these queries.
        """
        columns: list[Any] = [getattr(self, field.name) for field in fields(self)]
        taken: list[Any] = [None if column is None else column[rows] for column in columns]
        return Evidence(*taken)


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Join the evidence of several lists of queries; votes are cut to the shortest."""
    k = min(part.labels.shape[1] for part in parts)
    columns: list[Any] = []
    for field in fields(Evidence):
        arrays = [getattr(part, field.name) for part in parts]
        if any(array is None for array in arrays):
            columns.append(None)
        elif field.name in ("similarities", "labels"):
            columns.append(np.concatenate([array[:, :k] for array in arrays]))
        else:
            columns.append(np.concatenate(arrays))
    return Evidence(*columns)


def collect(
    query: GlobalFeatures,
    classes: Classes,
    k: int,
    logits: Logits | None = None,
    junk: Sequence[np.ndarray] = (),
) -> Evidence:
    """Collect what says the class of queries.

    Args:
        query: embeddings of Q queries.
        classes: the labelled gallery.
        k: number of nearest images; fewer if the gallery is smaller.
        logits: of the queries; None without a classifier.
        junk: for each query the gallery rows that do not count; () = all count.

    Returns:
        The evidence.
    """
    neighbours = _neighbours(query, classes, k, junk)
    centres = _centres(query, classes, junk)
    if logits is None:
        return Evidence(*neighbours, centres)
    return Evidence(*neighbours, centres, *_of_classifier(logits, classes.names))


def _neighbours(
    query: GlobalFeatures, classes: Classes, k: int, junk: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    num_junk = max(map(len, junk), default=0)
    ranking = search(query, classes.features, min(k + num_junk, len(classes.labels)))
    rows = np.array(ranking.rows, np.int64)
    for place in np.flatnonzero([len(one) > 0 for one in junk]):
        rows[place, np.isin(rows[place], junk[place])] = -1
    # Images that do not count go to the end; the others keep their order.
    order = np.argsort(rows < 0, axis=1, kind="stable")[:, :k]
    rows = np.take_along_axis(rows, order, axis=1)
    similarities = np.take_along_axis(ranking.scores, order, axis=1)
    return similarities, np.where(rows >= 0, classes.labels[rows], -1)


def _centres(query: GlobalFeatures, classes: Classes, junk: Sequence[np.ndarray]) -> np.ndarray:
    sums = classes.sums
    counts = np.bincount(classes.labels, minlength=len(sums))
    cosines = query.embeddings @ directions(sums).T
    cosines[:, counts == 0] = -1
    for place in np.flatnonzero([len(one) > 0 for one in junk]):
        rows = junk[place]
        for label in np.unique(classes.labels[rows]):
            own = rows[classes.labels[rows] == label]
            rest = sums[label] - classes.features.embeddings[own].sum(axis=0, dtype=np.float64)
            centre = directions(rest[np.newaxis])[0]
            is_left = counts[label] > len(own)
            cosines[place, label] = query.embeddings[place] @ centre if is_left else -1
    return cosines


def _of_classifier(logits: Logits, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of the first classes, and logarithms of the softmax, of the gallery's classes.

    A class that the classifier does not have is a thousandth as probable as its least probable.
    """
    column_of = {spelling_key(name): place for place, name in enumerate(logits.class_names)}
    columns = np.array([column_of.get(spelling_key(name), -1) for name in names])
    mean = np.nan_to_num(logits.mean)
    first = np.full_like(mean, np.nan)
    order = first_places(mean, NUM_FIRST)
    np.put_along_axis(first, order, np.take_along_axis(mean, order, axis=1), axis=1)
    logs = np.nan_to_num(logits.log_probabilities, nan=-np.log(len(logits.class_names)))
    unknown = logs.min(axis=1, keepdims=True) - np.float32(np.log(1000))
    return (
        np.where(columns >= 0, first[:, columns], np.nan),
        np.where(columns >= 0, logs[:, columns], unknown),
    )


def num_known(class_names: Sequence[str], names: Sequence[str]) -> int:
    """Return how many of the gallery's classes a classifier has.

    Args:
        class_names: classes of the classifier.
        names: classes of the gallery.
    """
    known = set(map(spelling_key, class_names))
    return sum(spelling_key(name) in known for name in names)


# --- from evidence to scores


def vote_scores(evidence: Evidence, vote: LabelVote) -> np.ndarray:
    """Add up the votes of the nearest images.

    score[label] += similarity ** similarity_power * logit ** logit_power, where the logit is the
    mean logit of the label if it is among the first 5 classes of the classifier, else 1e-8. Source:
    the winner of the Lotte product classification, with 5 images and the powers 9 and 10.

    In addition, each class has one vote whose similarity is the mean cosine with all class centres.
    So a query that is hardly nearer to its neighbours than to anything gets low probabilities. This
    does not change which class is first, unless its votes are weaker than that.

    Args:
        evidence: of Q queries.
        vote: number of images, and powers.

    Returns:
        Logarithms of the scores, float64 [Q, C].
    """
    labels, weights, least = _votes(evidence, vote)
    largest = weights.max(axis=1, keepdims=True, initial=-1e6)
    num_queries, num_classes = evidence.centres.shape
    places = np.arange(num_queries)[:, np.newaxis] * num_classes + labels
    is_vote = labels >= 0
    votes = np.exp(weights - largest)[is_vote]
    sums = np.bincount(places[is_vote], votes, minlength=num_queries * num_classes)
    with np.errstate(divide="ignore"):
        scores = np.log(sums.reshape(num_queries, num_classes)) + largest
    return np.logaddexp(scores, least[:, np.newaxis])


def _votes(evidence: Evidence, vote: LabelVote) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels [Q, k], logarithms of the votes [Q, k], and of the vote of each class [Q]."""
    labels = evidence.labels[:, : vote.neighbours]
    similarities = np.maximum(evidence.similarities[:, : labels.shape[1]], LEAST_SIMILARITY)
    weights = vote.similarity_power * np.log(similarities.astype(np.float64))
    if vote.logit_power:
        assert evidence.first_logits is not None
        logits = np.take_along_axis(evidence.first_logits, np.maximum(labels, 0), axis=1)
        logits = np.maximum(np.nan_to_num(logits, nan=OTHER_LOGIT), OTHER_LOGIT)
        weights = weights + vote.logit_power * np.log(logits.astype(np.float64))
    background = np.maximum(evidence.centres.mean(axis=1, dtype=np.float64), LEAST_SIMILARITY)
    least = vote.similarity_power * np.log(background) + vote.logit_power * np.log(OTHER_LOGIT)
    return labels, np.where(labels >= 0, weights, -np.inf), least


def most_voted(evidence: Evidence, vote: LabelVote) -> tuple[np.ndarray, np.ndarray]:
    """Return the first class of `vote_scores` and its probability, without a table [Q, C].

    Args:
        evidence: of Q queries.
        vote: number of images, and powers.

    Returns:
        Class, int64 [Q], and probability, float64 [Q].
    """
    labels, weights, least = _votes(evidence, vote)
    order = np.argsort(labels, axis=1, kind="stable")
    labels = np.take_along_axis(labels, order, axis=1)
    weights = np.take_along_axis(weights, order, axis=1)
    largest = np.maximum(weights.max(axis=1), least)
    votes = np.exp(weights - largest[:, np.newaxis])
    background = np.exp(least - largest)
    # Votes of one class are side by side now: groups, which start where the class changes.
    is_first = np.ones(labels.shape, bool)
    is_first[:, 1:] = labels[:, 1:] != labels[:, :-1]
    sums = np.zeros(labels.shape)
    sums[is_first] = np.add.reduceat(votes.ravel(), np.flatnonzero(is_first))
    best = sums.argmax(axis=1)
    rows = np.arange(len(labels))
    total = votes.sum(axis=1) + evidence.centres.shape[1] * background
    return np.maximum(labels[rows, best], 0), (sums[rows, best] + background) / total


def plain_scores(evidence: Evidence, method: str, vote: LabelVote) -> np.ndarray:
    """Return the scores of one method before any temperature.

    Args:
        evidence: of Q queries; "softmax" and "lotte" need a classifier.
        method: "vote", "lotte", "centres" or "softmax".
        vote: settings of the votes.

    Returns:
        Logarithms of the scores, float [Q, C].
    """
    if method == "centres":
        return evidence.centres
    if method == "softmax":
        assert evidence.log_softmax is not None
        return evidence.log_softmax
    return vote_scores(evidence, vote)


def scores(evidence: Evidence, labelling: Labelling) -> np.ndarray:
    """Return the scores of the classes before the last temperature.

    Args:
        evidence: of Q queries.
        labelling: method and settings.

    Returns:
        Logarithms of the scores, float [Q, C].
    """
    if labelling.method != "product":
        return plain_scores(evidence, labelling.method, labelling.vote)
    return np.sum(
        [
            normalized(plain_scores(evidence, name, labelling.vote), temperature)
            for name, temperature in zip(labelling.factors, labelling.temperatures, strict=True)
        ],
        axis=0,
    )


def probabilities(evidence: Evidence, labelling: Labelling) -> np.ndarray:
    """Return the probability of each class.

    Args:
        evidence: of Q queries.
        labelling: method and settings.

    Returns:
        float [Q, C]; each row has the sum 1.
    """
    return np.exp(normalized(scores(evidence, labelling), labelling.temperature))
