"""Test how classes are scored: votes, centres, softmax and their product, against slow versions."""

from __future__ import annotations

import numpy as np
import pytest

from data_io.records import GlobalFeatures
from delf_ext.app.label_choice import METHODS, WITHOUT_LOGITS, Wanted, choose, predict
from delf_ext.app.label_scores import (
    Classes,
    Evidence,
    collect,
    joined,
    most_voted,
    num_known,
    plain_scores,
    probabilities,
    vote_scores,
)
from delf_ext.evaluation.classification import accuracy, global_average_precision
from delf_ext.features.logits import Logits, log_softmax
from delf_ext.recipes.label_parts import Labelling
from delf_ext.recipes.schema import LabelVote

NAMES = ("a", "b", "c", "d")


def features(values: np.ndarray, prefix: str) -> GlobalFeatures:
    values = np.asarray(values, np.float32)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    return GlobalFeatures(np.array([f"{prefix}{row}" for row in range(len(unit))]), unit, "v1")


def drawn(seed: int = 0, spread: float = 0.7) -> tuple[GlobalFeatures, np.ndarray, Classes]:
    """Return queries with their labels, and a gallery, of four classes in six dimensions."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (4, 6)) + 1
    true = rng.integers(0, 4, 40)
    labels = rng.integers(0, 4, 30)
    query = centres[true] + spread * rng.normal(0, 1, (40, 6))
    gallery = centres[labels] + spread * rng.normal(0, 1, (30, 6))
    return features(query, "q"), true, Classes(NAMES, features(gallery, "g"), labels)


def logits_for(true: np.ndarray, names: tuple[str, ...] = NAMES, seed: int = 1) -> Logits:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 2, (len(true), len(names)))
    for row, label in enumerate(true):
        if NAMES[label] in names:
            values[row, names.index(NAMES[label])] += 3
    return Logits(names, (values.astype(np.float32),))


def slow_vote(
    query: np.ndarray, classes: Classes, vote: LabelVote, logits: np.ndarray | None
) -> np.ndarray:
    """Add up the votes as the winner of the Lotte competition does, query by query."""
    sums = np.zeros((len(query), len(classes.names)))
    for row, one in enumerate(query.astype(np.float64)):
        similarities = classes.features.embeddings.astype(np.float64) @ one
        first = [] if logits is None else np.argsort(-logits[row])[:5].tolist()
        for place in np.argsort(-similarities, kind="stable")[: vote.neighbours]:
            label = classes.labels[place]
            weight = max(similarities[place], 1e-6) ** vote.similarity_power
            if vote.logit_power:
                logit = max(logits[row, label], 1e-8) if label in first else 1e-8
                weight *= logit**vote.logit_power
            sums[row, label] += weight
    return sums


@pytest.mark.parametrize("vote", [LabelVote(5, 9.0, 0.0), LabelVote(1, 1.0, 0.0), LabelVote()])
def test_votes_are_those_of_the_formula(vote: LabelVote) -> None:
    query, true, classes = drawn()
    names = ("z1", "z2", *NAMES, "z3")
    logits = logits_for(true, names)
    evidence = collect(query, classes, 10, logits)
    scores = vote_scores(evidence, vote)
    of_names = logits.mean[:, 2:6]
    first = np.argsort(-logits.mean, axis=1)[:, :5] - 2
    slow = np.zeros((len(true), 4))
    for row in range(len(true)):
        known = np.where(np.isin(np.arange(4), first[row]), of_names[row], -1.0)
        slow[row] = slow_vote(query.embeddings[row : row + 1], classes, vote, known[np.newaxis])[0]
    mean = evidence.centres.mean(axis=1, dtype=np.float64)
    background = np.maximum(mean, 1e-6) ** vote.similarity_power
    background = background * 1e-8**vote.logit_power
    expected = np.log(slow + background[:, np.newaxis])
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.parametrize("vote", [LabelVote(30, 0.0, 0.0), LabelVote(4, 27.0, 0.0), LabelVote()])
def test_most_voted_class_and_its_probability_are_those_of_the_table(vote: LabelVote) -> None:
    query, true, classes = drawn()
    junk = [np.arange(row % 31) for row in range(len(true))]
    for number in (30, 1):
        evidence = collect(query, classes, number, logits_for(true), junk)
        expected = predict(vote_scores(evidence, vote), 1.0, true)
        label, confidence = most_voted(evidence, vote)
        np.testing.assert_array_equal(label, expected.label)
        np.testing.assert_allclose(confidence, expected.confidence, rtol=1e-9)


def test_golden_vote_by_hand() -> None:
    """Nearest: b .9, a .8, a .5; the classifier says a 2, b 1 (both among its first five)."""
    evidence = Evidence(
        similarities=np.array([[0.9, 0.8, 0.5]], np.float32),
        labels=np.array([[1, 0, 0]]),
        centres=np.array([[0.0, 0.0]], np.float32),
        first_logits=np.array([[2.0, 1.0]], np.float32),
        log_softmax=np.log(np.array([[0.7, 0.3]], np.float32)),
    )
    plain = np.exp(vote_scores(evidence, LabelVote(3, 9.0, 0.0)))[0]
    np.testing.assert_allclose(plain, [0.8**9 + 0.5**9, 0.9**9], rtol=1e-5)
    lotte = np.exp(vote_scores(evidence, LabelVote(3, 9.0, 10.0)))[0]
    np.testing.assert_allclose(lotte, [(0.8**9 + 0.5**9) * 2**10, 0.9**9], rtol=1e-5)
    first_only = np.exp(vote_scores(evidence, LabelVote(1, 9.0, 0.0)))[0]
    assert first_only[0] < 1e-50 < first_only[1]


def test_a_label_outside_the_first_classes_of_the_classifier_hardly_counts() -> None:
    query, true, classes = drawn()
    names = (*NAMES, *(f"z{number}" for number in range(6)))
    values = np.zeros((len(true), len(names)), np.float32)
    values[:, 4:9] = 5.0
    evidence = collect(query, classes, 5, Logits(names, (values,)))
    assert evidence.first_logits is not None and np.isnan(evidence.first_logits).all()
    lotte = plain_scores(evidence, "lotte", LabelVote())
    same = plain_scores(evidence, "vote", LabelVote(5, 9.0, 0.0))
    np.testing.assert_allclose(lotte - 10 * np.log(1e-8), same, atol=1e-6)


def test_images_that_do_not_count_have_no_vote_and_no_share_in_a_centre() -> None:
    query, _, classes = drawn()
    # Each gallery image searches the others: leave one out.
    own = [np.array([row]) for row in range(len(classes.labels))]
    evidence = collect(classes.features, classes, 4, junk=own)
    for row in (0, 7, 29):
        others = np.arange(len(classes.labels)) != row
        part = classes.take(others)
        expected = collect(classes.features.take(np.array([row])), part, 4)
        np.testing.assert_array_equal(evidence.labels[row], expected.labels[0])
        np.testing.assert_allclose(evidence.similarities[row], expected.similarities[0])
        np.testing.assert_allclose(evidence.centres[row], expected.centres[0], atol=1e-6)
    nothing = collect(query, classes, 4, junk=[np.zeros(0, np.int64)] * len(query))
    np.testing.assert_array_equal(nothing.labels, collect(query, classes, 4).labels)


def test_class_without_images_and_query_without_neighbours_are_defined() -> None:
    query, true, classes = drawn()
    part = classes.take(classes.labels != 2)
    evidence = collect(query, part, 3, logits_for(true))
    assert (evidence.centres[:, 2] == -1).all()
    alone = Classes(NAMES, classes.features.take(np.array([0])), classes.labels[:1])
    junk = [np.array([0])] * len(query)
    lonely = probabilities(collect(query, alone, 3, junk=junk), Labelling("vote"))
    np.testing.assert_allclose(lonely, 0.25)


def test_softmax_follows_the_names_of_classes() -> None:
    query, true, classes = drawn()
    logits = logits_for(true, ("d", "x", " A", "b"))
    evidence = collect(query, classes, 3, logits)
    assert evidence.log_softmax is not None
    shares = np.exp(log_softmax(logits.mean))
    np.testing.assert_allclose(np.exp(evidence.log_softmax[:, [3, 0, 1]]), shares[:, [0, 2, 3]])
    # The classifier does not have c.
    assert (evidence.log_softmax[:, 2] < evidence.log_softmax[:, [0, 1, 3]].min(axis=1)).all()
    assert num_known(logits.class_names, NAMES) == 3


def test_probabilities_of_all_methods_have_the_sum_one() -> None:
    query, true, classes = drawn()
    evidence = collect(query, classes, 50, logits_for(true))
    product = Labelling("product", factors=("vote", "centres", "softmax"), temperatures=(1, 0.1, 1))
    for labelling in (*(Labelling(one) for one in METHODS if one != "product"), product):
        table = probabilities(evidence, labelling)
        np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-6)
        assert (table >= 0).all()
    parts = [
        probabilities(evidence, Labelling(name, temperature=temperature))
        for name, temperature in (("vote", 1.0), ("centres", 0.1), ("softmax", 1.0))
    ]
    expected = np.prod(parts, axis=0)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(evidence, product), expected, rtol=1e-5)


def test_blocks_of_queries_do_not_change_the_result() -> None:
    query, true, classes = drawn()
    logits = logits_for(true)
    whole = collect(query, classes, 5, logits)
    rows = np.arange(len(true))
    halves = [rows[:17], rows[17:]]
    parts = [collect(query.take(half), classes, 5, logits.take(half)) for half in halves]
    for name in ("similarities", "labels", "centres", "first_logits", "log_softmax"):
        np.testing.assert_allclose(getattr(joined(parts), name), getattr(whole, name), atol=1e-6)


# --- the choice


def test_choice_takes_the_method_of_highest_gap_and_calibrates_it() -> None:
    query, true, classes = drawn(spread=1.2)
    evidence = collect(query, classes, 30, logits_for(true))
    chosen, tried = choose(evidence, true, Wanted(), METHODS)
    assert [one.labelling.method for one in tried] == list(METHODS)
    best = max(tried, key=lambda one: one.gap)
    assert chosen == best.labelling
    again = predict(np.log(probabilities(evidence, chosen)), 1.0, true)
    assert (accuracy(again), global_average_precision(again)) == pytest.approx(best[1:3])
    for one in tried:
        shares = probabilities(evidence, one.labelling)[np.arange(len(true)), true]
        for factor in (0.7, 1.4):
            worse = Labelling(
                one.labelling.method,
                one.labelling.vote,
                one.labelling.factors,
                one.labelling.temperatures,
                one.labelling.temperature * factor,
            )
            other = probabilities(evidence, worse)[np.arange(len(true)), true]
            assert np.log(other).mean() < np.log(shares).mean()


def test_what_is_settled_is_not_chosen() -> None:
    query, true, classes = drawn()
    evidence = collect(query, classes, 30)
    wanted = Wanted("vote", neighbours=7, power=2.0, temperature=3.0, unknown_below=0.4)
    chosen, _ = choose(evidence, true, wanted, ("vote",))
    assert chosen == Labelling("vote", LabelVote(7, 2.0, 0.0), (), (), 3.0, 0.4)
    product, _ = choose(evidence, true, Wanted(), ("product",))
    assert product.factors == ("vote", "centres")
    chosen, tried = choose(evidence, true, Wanted(), WITHOUT_LOGITS)
    assert not chosen.uses_logits and len(tried) == 3


def test_precision_sets_the_limit_of_unknown_labels() -> None:
    query, true, classes = drawn(spread=2.0)
    evidence = collect(query, classes, 30)
    chosen, _ = choose(evidence, true, Wanted(precision=0.9), WITHOUT_LOGITS)
    table = probabilities(evidence, chosen)
    is_right = table.argmax(axis=1) == true
    answered = table.max(axis=1) >= chosen.unknown_below - 1e-12
    assert is_right[answered].mean() >= 0.9 > is_right.mean() and answered.any()
    everything, _ = choose(evidence, 3 - true, Wanted("centres", precision=0.99), ("centres",))
    assert 0 < everything.unknown_below <= 2
