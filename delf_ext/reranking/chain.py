"""Run several re-ranking steps one after the other, under one deadline.

Order of the steps. `dba` and `aqe` change embeddings and search again, which discards the order of
earlier steps: put them first, dba before aqe. aqe expands each query with the first images of its
ranking, so `geometric:100,aqe:5` expands queries with verified images only. `k_reciprocal` and
`diffusion` sort by embeddings: use one of them, after dba and aqe. `geometric` compares local
features: put it last, because it decides the first places.

Time. Under a deadline, every step after the first is timed on its first blocks. A step then
reserves time for each later step that needs less time than it gets itself. It stops before a block
that may not end in time; the queries that it has not reached keep their ranking.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data_io.records import GlobalFeatures, Ranking
from delf_ext.index import exact
from delf_ext.index.failed import any_failed, usable, with_failed, without_failed
from delf_ext.index.neighbours import nearest_neighbours
from delf_ext.reranking.database_augmentation import augment_database
from delf_ext.reranking.deadline import Abandoned, Deadline
from delf_ext.reranking.diffusion import DiffusionConfig, rerank_by_diffusion
from delf_ext.reranking.k_reciprocal import rerank_k_reciprocal
from delf_ext.reranking.pace import AFTERWARDS
from delf_ext.reranking.query_expansion import expanded_embeddings
from delf_ext.reranking.rankings import check_same_images, reranked
from delf_ext.reranking.steps import Step, parse_chain
from delf_ext.reranking.trial import Trial

__all__ = ["Step", "parse_chain", "run_chain"]

QUERIES_PER_SEARCH = 2048
# Fewer blocks are too coarse for a deadline.
MIN_BLOCKS = 16
# Size of the ranking that compiles the steps.
COMPILED_QUERIES = 64
COMPILED_PLACES = 16

# (ranking, top_k, deadline) -> ranking, verified with local features.
Verify = Callable[[Ranking, int, Deadline], Ranking]


@dataclass(frozen=True, eq=False)
class _State:
    """Input and output of a step: the embeddings that later steps use, and the ranking so far.

    Attributes:
        query: embeddings [Q, D].
        gallery: embeddings [G, D].
        ranking: ranking so far, [Q, k].
        width: places that a search must fill.
    """

    query: GlobalFeatures
    gallery: GlobalFeatures
    ranking: Ranking
    width: int


def run_chain(
    steps: Sequence[Step],
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    ranking: Ranking,
    deadline: Deadline | None = None,
    verifier: Verify | None = None,
) -> Ranking:
    """Re-rank with several steps, each of which works on the result of the one before.

    Args:
        steps: from `parse_chain`.
        query: embeddings [Q, D].
        gallery: embeddings [G, D].
        ranking: ranking of these images, [Q, k].
        deadline: time at which the result must be ready; writing the result is not included.
        verifier: verifies a ranking with local features. Under a deadline it is also called for a
            trial, and not at all if no time is left.

    Returns:
        A ranking [Q, k]. A query is complete if every step reached it. The provenance says of each
        step how many queries it reached.

    Raises:
        ValueError: ranking and features are of different images, or a geometric step has no
            `verifier`.
    """
    deadline = deadline or Deadline()
    check_same_images(ranking, query, gallery)
    if query.failed.all() or gallery.failed.all():
        return ranking
    if any_failed(query, gallery):
        usable_verifier = None if verifier is None else _of_usable(verifier, query, gallery)
        reranked_usable = run_chain(
            steps,
            usable(query),
            usable(gallery),
            without_failed(ranking, query, gallery),
            deadline,
            usable_verifier,
        )
        return with_failed(reranked_usable, query, gallery, ranking.rows.shape[1])
    if verifier is None and any(step.name == "geometric" for step in steps):
        raise ValueError(
            "the geometric step needs local features of queries and gallery. Received none."
        )
    if not ranking.rows.size or not steps:
        return ranking
    width = ranking.rows.shape[1]
    state = _State(query, gallery, _without_notes(ranking), width)
    # Seconds to leave to each step. The first is not timed, because no step leaves time to it.
    needs_s = [0.0] * len(steps)
    if deadline.is_limited:
        if not _compile_in_time(steps, state, deadline):
            deadline = Deadline(0)
        needs_s[1:] = [_needed_s(step, state, deadline, verifier) for step in steps[1:]]
    complete = ranking.complete
    notes = [ranking.provenance]
    for number, step in enumerate(steps):
        part = deadline.leave_time_for(needs_s[number + 1 :])
        reached = np.zeros(len(query), bool)
        note = str(step)
        if part.remaining_s() > part.first_s:
            state = dataclasses.replace(
                state,
                ranking=_without_notes(state.ranking),
                width=_places_needed(steps[number + 1 :], width, deadline),
            )
            state = _run(step, state, part, verifier)
            reached = np.asarray(state.ranking.complete)
            note = state.ranking.provenance or note
        complete = complete & reached
        notes.append(f"{note} ({reached.sum()} of {len(reached)} queries)")
    return _with_notes(state.ranking, complete, "; ".join(filter(None, notes)))


def _of_usable(verifier: Verify, query: GlobalFeatures, gallery: GlobalFeatures) -> Verify:
    """Return the verifier of all images as one of those whose embedding did not fail."""

    def verify_usable(ranking: Ranking, top_k: int, deadline: Deadline) -> Ranking:
        whole = with_failed(ranking, query, gallery, ranking.rows.shape[1])
        return without_failed(verifier(whole, top_k, deadline), query, gallery)

    return verify_usable


def _with_notes(ranking: Ranking, complete: np.ndarray | None, provenance: str) -> Ranking:
    return Ranking.trusted(
        query_ids=ranking.query_ids,
        gallery_ids=ranking.gallery_ids,
        rows=ranking.rows,
        scores=ranking.scores,
        complete=complete,
        provenance=provenance,
    )


def _without_notes(ranking: Ranking) -> Ranking:
    """Return the ranking as complete and without provenance, so that a step notes only its own."""
    return _with_notes(ranking, None, "")


def _places_needed(later: Sequence[Step], width: int, deadline: Deadline) -> int:
    """Return how many places a search must fill.

    Only `num_expand` if the next step is aqe and there is no deadline.
    """
    if later and later[0].name == "aqe" and not deadline.is_limited:
        return min(width, later[0].settings["num_expand"])
    return width


def _compile_in_time(steps: Sequence[Step], state: _State, deadline: Deadline) -> bool:
    """Compile the functions of the steps; return False if this did not end before the deadline."""
    try:
        deadline.sooner(deadline.first_s).run(lambda: _compile(steps, state))
    except Abandoned:
        return False
    return True


def _compile(steps: Sequence[Step], state: _State) -> None:
    """Run the steps on a few images. The geometric step compiles by itself."""
    query = _part(state.query, state.query.embeddings, slice(COMPILED_QUERIES))
    gallery = _part(state.gallery, state.gallery.embeddings, slice(exact.MIN_GALLERY))
    places = min(COMPILED_PLACES, state.width)
    state = _State(query, gallery, exact.search(query, gallery, places), places)
    for step in steps:
        if step.name != "geometric":
            state = _run(step, state, Deadline(), None)


def _part(features: GlobalFeatures, embeddings: np.ndarray, rows: slice) -> GlobalFeatures:
    return GlobalFeatures.trusted(
        ids=features.ids[rows], embeddings=embeddings[rows], digest=features.digest
    )


def _needed_s(step: Step, state: _State, deadline: Deadline, verifier: Verify | None) -> float:
    """Run the first blocks of a step and return the seconds to leave to it.

    Returns:
        Infinity if the step could not be measured.
    """
    trial = Trial(deadline)
    if trial.remaining_s() <= trial.first_s:
        return math.inf
    _run(step, state, trial, verifier)
    return (1 + AFTERWARDS) * trial.whole_s() + 2 * deadline.first_s


def _run(step: Step, state: _State, deadline: Deadline, verifier: Verify | None) -> _State:
    if step.name == "dba":
        return _augmented(step, state, deadline)
    if step.name == "aqe":
        return _expanded(step, state, deadline)
    images = (state.ranking, state.query, state.gallery)
    if step.name == "k_reciprocal":
        ranking = rerank_k_reciprocal(*images, **step.settings, deadline=deadline)
    elif step.name == "diffusion":
        config = DiffusionConfig(**step.settings)
        ranking = rerank_by_diffusion(*images, config, deadline=deadline)
    else:
        assert verifier is not None
        ranking = verifier(state.ranking, step.settings["top_k"], deadline)
    return dataclasses.replace(state, ranking=ranking)


def _augmented(step: Step, state: _State, deadline: Deadline) -> _State:
    try:
        neighbours = nearest_neighbours(
            state.gallery.embeddings, step.settings["num_expand"], deadline.give_up()
        )
    except TimeoutError:
        unreached = _with_notes(state.ranking, np.zeros(len(state.query), bool), "")
        return dataclasses.replace(state, ranking=unreached)
    gallery = augment_database(state.gallery, **step.settings, neighbours=neighbours)
    state = dataclasses.replace(state, gallery=gallery)
    return _searched(step, state, deadline, lambda block: state.query.embeddings[block])


def _expanded(step: Step, state: _State, deadline: Deadline) -> _State:
    settings = step.settings

    def expanded(block: slice) -> np.ndarray:
        rows = state.ranking.rows[block, : settings["num_expand"]]
        own = state.query.embeddings[block]
        return expanded_embeddings(own, state.gallery.embeddings, rows, settings["alpha"])

    return _searched(step, state, deadline, expanded)


def _searched(
    step: Step, state: _State, deadline: Deadline, embeddings_of: Callable[[slice], np.ndarray]
) -> _State:
    """Search again with new embeddings; queries not reached keep their ranking and embedding."""
    query = state.query
    before = state.ranking
    num_queries = len(query)
    reached = np.zeros(num_queries, bool)
    embeddings = query.embeddings.copy()
    rows = np.full((num_queries, state.width), -1, np.int32)
    scores = np.zeros((num_queries, state.width), np.float32)
    shared = min(state.width, before.rows.shape[1])
    rows[:, :shared] = before.rows[:, :shared]
    scores[:, :shared] = before.scores[:, :shared]
    block_size = QUERIES_PER_SEARCH
    if deadline.is_limited:
        block_size = min(block_size, 1 + num_queries // MIN_BLOCKS)
    for block in deadline.blocks(num_queries, block_size, what=step.name):
        embeddings[block] = embeddings_of(block)
        part = _part(query, embeddings, block)
        result = exact.search(part, state.gallery, state.width)
        num_places = result.rows.shape[1]
        rows[block, :num_places] = result.rows
        scores[block, :num_places] = result.scores
        reached[block] = True
    searched = GlobalFeatures.trusted(ids=query.ids, embeddings=embeddings, digest=query.digest)
    ranking = reranked(before, rows, scores, reached, f"{step}, searched again")
    return dataclasses.replace(state, query=searched, ranking=ranking)
