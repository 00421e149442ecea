"""Choose how labels are given, on labelled queries that are not those of the measurement."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from delf_ext.app.label_scores import Evidence, most_voted, plain_scores, scores
from delf_ext.evaluation.calibration import fit_temperature, normalized, threshold_for
from delf_ext.evaluation.classification import (
    Predicted,
    accuracy,
    expected_calibration_error,
    global_average_precision,
)
from delf_ext.recipes.label_parts import UNKNOWN_ALL, Factor, Labelling, Method
from delf_ext.recipes.schema import LabelVote

NEIGHBOURS = (1, 3, 5, 10, 20, 50)
POWERS = (1.0, 3.0, 9.0, 27.0)
WITHOUT_LOGITS: tuple[Method, ...] = ("vote", "centres", "product")
METHODS: tuple[Method, ...] = ("vote", "centres", "softmax", "lotte", "product")
"""Of methods that are equally good, the first one is chosen."""
RULE = "highest GAP; of equal ones, highest accuracy"
"""GAP also counts how well right labels are told from wrong ones. Seen on Grocery Store: of methods
of about one accuracy, that of the highest GAP has the best GAP and ECE on new photographs."""


@dataclass(frozen=True)
class Wanted:
    """What the user has settled; None leaves it to the choice.

    Attributes:
        method: one of METHODS.
        neighbours: number of images that vote.
        power: exponent of the similarity in votes.
        temperature: the last temperature.
        unknown_below: a label of a lower probability is not given.
        precision: choose `unknown_below` so that this share of the given labels is right.
    """

    method: Method | None = None
    neighbours: int | None = None
    power: float | None = None
    temperature: float | None = None
    unknown_below: float | None = None
    precision: float | None = None

    def vote(self, default: LabelVote) -> LabelVote:
        """Return the settings of a vote: the wanted ones, else those of `default`."""
        neighbours = default.neighbours if self.neighbours is None else self.neighbours
        power = default.similarity_power if self.power is None else self.power
        return LabelVote(neighbours, power, default.logit_power)

    def votes(self, largest: int) -> list[LabelVote]:
        """Return the votes to try.

        Args:
            largest: number of gallery images.
        """
        neighbours = [k for k in NEIGHBOURS if k <= largest]
        if self.neighbours is not None:
            neighbours = [self.neighbours]
        powers = POWERS if self.power is None else (self.power,)
        return [LabelVote(k, power, 0.0) for k in neighbours for power in powers]


class Tried(NamedTuple):
    """One candidate of the choice.

    Attributes:
        labelling: method and settings.
        accuracy: share of right labels.
        gap: global average precision.
        ece: expected calibration error.
    """

    labelling: Labelling
    accuracy: float
    gap: float
    ece: float


def choose(
    evidence: Evidence, labels: np.ndarray, wanted: Wanted, methods: Sequence[Method]
) -> tuple[Labelling, list[Tried]]:
    """Choose method and settings, fit the temperature, and set the limit of unknown labels.

    Args:
        evidence: of Q queries.
        labels: int [Q], their classes.
        wanted: what is settled already.
        methods: methods to try.

    Returns:
        What is chosen, and the best settings of each method.
    """
    vote = _best_vote(evidence, labels, wanted)
    tried = []
    for method in METHODS:
        if method in methods:
            candidate = _candidate(method, vote, evidence, labels, wanted, methods)
            tried.append(_judged(candidate, evidence, labels, wanted.temperature))
    best = max(tried, key=lambda one: (one.gap, one.accuracy)).labelling
    unknown_below = wanted.unknown_below or 0.0
    if wanted.precision is not None:
        predicted = predict(scores(evidence, best), best.temperature, labels)
        unknown_below = min(threshold_for(predicted, wanted.precision), UNKNOWN_ALL)
    return dataclasses.replace(best, unknown_below=unknown_below), tried


def predict(log_scores: np.ndarray, temperature: float, labels: np.ndarray) -> Predicted:
    """Return the most probable class of each query.

    Args:
        log_scores: float [Q, C]; of equal ones, the first is taken.
        temperature: the scores are divided by it.
        labels: int [Q], the true classes.

    Returns:
        The predictions.
    """
    logs = normalized(log_scores, temperature)
    return Predicted(labels, logs.argmax(axis=1), np.exp(logs.max(axis=1)))


def _best_vote(evidence: Evidence, labels: np.ndarray, wanted: Wanted) -> LabelVote:
    votes = wanted.votes(evidence.labels.shape[1])
    if len(votes) == 1:
        return votes[0]
    predictions = [Predicted(labels, *most_voted(evidence, vote)) for vote in votes]
    figures = [(global_average_precision(one), accuracy(one)) for one in predictions]
    return votes[figures.index(max(figures))]


def _candidate(
    method: Method,
    vote: LabelVote,
    evidence: Evidence,
    labels: np.ndarray,
    wanted: Wanted,
    methods: Sequence[Method],
) -> Labelling:
    if method == "lotte":
        return Labelling(method, wanted.vote(LabelVote()))
    if method != "product":
        return Labelling(method, vote)
    has_softmax = evidence.log_softmax is not None and "softmax" in methods
    factors: tuple[Factor, ...] = ("vote", "centres")
    if has_softmax:
        factors = (*factors, "softmax")
    temperatures = tuple(
        fit_temperature(plain_scores(evidence, name, vote), labels) for name in factors
    )
    return Labelling(method, vote, factors, temperatures)


def _judged(
    candidate: Labelling, evidence: Evidence, labels: np.ndarray, temperature: float | None
) -> Tried:
    log_scores = scores(evidence, candidate)
    if temperature is None:
        temperature = fit_temperature(log_scores, labels)
    predicted = predict(log_scores, temperature, labels)
    return Tried(
        dataclasses.replace(candidate, temperature=temperature),
        accuracy(predicted),
        global_average_precision(predicted),
        expected_calibration_error(predicted),
    )
