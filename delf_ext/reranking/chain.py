"""Several re-rankers one after the other, under one deadline: the plain ranking comes first, and each makes it better.

What helps where. `dba` and `aqe` change embeddings and search again with them: put them first, dba before aqe, as aqe takes its
images from the ranking; they throw away what a re-ranker before them found, but for the first places that aqe starts from (so
`geometric:100,aqe:5` expands queries only with verified images). `k_reciprocal` and `diffusion` order anew by embeddings: one of
the two, behind those. `geometric` looks at the photographs themselves: last, it has the last word over the first places.
Time. Steps run in their order, each over the queries in theirs. What each will cost is measured on the first queries: the cheap
get all they need, the dear what that leaves (`deadline.cheapest_first`), wherever they stand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data_io.records import GlobalFeatures, Ranking
from delf_ext.index import exact
from delf_ext.index.neighbours import nearest_neighbours
from delf_ext.reranking.database_augmentation import augment_database
from delf_ext.reranking.deadline import AFTERWARDS, SLOWDOWN, Deadline, cheapest_first
from delf_ext.reranking.diffusion import DiffusionConfig, rerank_by_diffusion
from delf_ext.reranking.k_reciprocal import rerank_k_reciprocal
from delf_ext.reranking.query_expansion import check_same_images, expanded_embeddings
from delf_ext.reranking.steps import Step, parse_chain

__all__ = ["Step", "parse_chain", "run_chain"]

QUERIES_PER_SEARCH, FEWEST_BLOCKS = 2048, 16  # fewer blocks are too coarse for a deadline
TRIED, TRIED_PLACES = 64, 16  # queries that compiling is tried on, and places of their ranking
TIMED_SEARCHES, TIMED_VERIFICATIONS = 512, 4  # queries at most
TIMED_SHARE = 1 / 16  # of all queries: measuring must not cost what it is to divide
SPREAD_S = 6e-6  # of diffusion, per query and candidate (seen at k = 50 on one core)
# Queries, gallery images, candidates, seconds of a search -> seconds of a step; shares as seen at 18,000 x 60,000 x 512.
COSTS: dict[str, Callable[[int, int, int, float], float]] = {
    "dba": lambda queries, gallery, top_k, search_s: (queries + 0.28 * gallery) * search_s,
    "aqe": lambda queries, gallery, top_k, search_s: queries * search_s,
    "k_reciprocal": lambda queries, gallery, top_k, search_s: 0.36 * (queries + gallery) * search_s,
    "diffusion": lambda queries, gallery, top_k, search_s: (
        0.28 * gallery * search_s + queries * top_k * SPREAD_S
    ),
}

Geometric = Callable[[Ranking, int, Deadline], Ranking]


@dataclass(frozen=True, eq=False)
class _State:
    """What a step receives and returns: the embeddings that later steps work on, and the ranking so far; width: places that a
    search has to fill."""

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
    geometric: Geometric | None = None,
) -> Ranking:
    """The ranking after all steps, as wide as before; a query that a step had no time for keeps there what it had before.

    geometric: (ranking, top_k, deadline) -> ranking verifies local features, which are not known here. Under a deadline it may be
    called for the first queries alone, to be timed, and not at all where no time is left.
    Returns: complete where every step reached the query; the provenance tells for each step how many it reached. It is ready
    before the deadline as far as `Deadline` guarantees; writing it is the caller's (`deadline.sooner`).
    Raises: ValueError where ranking and features are of different images, or a geometric step has no `geometric`.
    """
    deadline = deadline or Deadline(None)
    check_same_images(ranking, query, gallery)
    if geometric is None and any(step.name == "geometric" for step in steps):
        raise ValueError(
            "the geometric step needs local features of queries and gallery. Received none."
        )
    if not ranking.rows.size or not steps:
        return ranking
    nothing = _told(ranking, [(str(step), np.zeros(len(query), bool)) for step in steps], ranking)
    record_s = _record_s(ranking, deadline)  # a second and more at the size of the final
    in_time = deadline.sooner(record_s)
    if in_time.remaining_s() <= deadline.first_s or not in_time.ends_in_time(
        lambda: _compile(steps, query, gallery, ranking)
    ):
        return nothing
    unbroken = (
        ranking
        if np.asarray(ranking.complete).all()
        else dataclasses.replace(ranking, complete=None)
    )
    state, width = _State(query, gallery, unbroken, ranking.rows.shape[1]), ranking.rows.shape[1]
    needs_s, done = _foreseen_s(steps, state, deadline, geometric), []
    for at, step in enumerate(steps):
        part = deadline.sooner(record_s)  # of this step; what its notes change is not checked again
        part = part.sooner(sum(cheapest_first(part.remaining_s(), needs_s[at:])[1:]))
        before, reached, what = state.ranking, np.zeros(len(query), bool), str(step)
        if part.remaining_s() > deadline.first_s:
            state = dataclasses.replace(
                state, width=_places_needed(steps[at + 1 :], width, deadline)
            )
            state = _run(step, state, part, geometric)
            reached = np.asarray(state.ranking.complete)
            what = (
                state.ranking.provenance.removeprefix(before.provenance).removeprefix("; ") or what
            )
            if step is not steps[-1] and not reached.all():
                state = dataclasses.replace(
                    state, ranking=dataclasses.replace(state.ranking, complete=None)
                )
        done.append((what, reached))
    return _told(state.ranking, done, ranking)


def _record_s(ranking: Ranking, deadline: Deadline) -> float:
    """Seconds to keep for each ranking that checks itself when it is made anew."""
    if not deadline.is_limited:
        return 0.0
    begun = deadline.clock()
    dataclasses.replace(ranking, rows=ranking.rows.copy(), scores=ranking.scores.copy())
    return SLOWDOWN * (deadline.clock() - begun)


def _places_needed(later: Sequence[Step], width: int, deadline: Deadline) -> int:
    """Of a search after which aqe surely searches again, what that looks at."""
    soon_again = later and later[0].name == "aqe" and not deadline.is_limited
    return min(width, later[0].settings["num_expand"]) if soon_again else width


def _compile(
    steps: Sequence[Step], query: GlobalFeatures, gallery: GlobalFeatures, ranking: Ranking
) -> None:
    """Runs the steps on a few images: the first call of a function is compiled, for seconds, in a fresh installation."""
    query, gallery = (
        dataclasses.replace(part, ids=part.ids[:number], embeddings=part.embeddings[:number])
        for part, number in ((query, TRIED), (gallery, exact.MIN_GALLERY))
    )
    places = min(TRIED_PLACES, ranking.rows.shape[1])
    state = _State(query, gallery, exact.search(query, gallery, places), places)
    for step in steps:
        if step.name != "geometric":  # whoever has local features compiles for them
            state = _run(step, state, Deadline(None), None)


def _told(ranking: Ranking, done: Sequence[tuple[str, np.ndarray]], before: Ranking) -> Ranking:
    """With what was done, and which queries it reached, in completeness and provenance."""
    complete = np.logical_and.reduce(
        [np.asarray(before.complete), *(reached for _, reached in done)]
    )
    counted = [f"{what} ({reached.sum()} of {len(reached)} queries)" for what, reached in done]
    return dataclasses.replace(
        ranking,
        complete=complete,
        provenance="; ".join(filter(None, (before.provenance, *counted))),
    )


def _run(step: Step, state: _State, deadline: Deadline, geometric: Geometric | None) -> _State:
    if step.name == "dba":
        return _augmented(step, state, deadline)
    if step.name == "aqe":
        return _expanded(step, state, deadline)
    if step.name == "k_reciprocal":
        ranking = rerank_k_reciprocal(
            state.ranking, state.query, state.gallery, **step.settings, deadline=deadline
        )
    elif step.name == "diffusion":
        ranking = rerank_by_diffusion(
            state.ranking,
            state.query,
            state.gallery,
            DiffusionConfig(**step.settings),
            deadline=deadline,
        )
    else:
        assert geometric is not None
        ranking = geometric(state.ranking, step.settings["top_k"], deadline)
    return dataclasses.replace(state, ranking=ranking)


def _augmented(step: Step, state: _State, deadline: Deadline) -> _State:
    try:
        neighbours = nearest_neighbours(
            state.gallery.embeddings, step.settings["num_expand"], deadline.give_up()
        )
    except TimeoutError:
        return dataclasses.replace(
            state,
            ranking=dataclasses.replace(state.ranking, complete=np.zeros(len(state.query), bool)),
        )
    gallery = augment_database(state.gallery, **step.settings, neighbours=neighbours)
    return _searched(
        step,
        dataclasses.replace(state, gallery=gallery),
        deadline,
        lambda block: state.query.embeddings[block],
    )


def _expanded(step: Step, state: _State, deadline: Deadline) -> _State:
    def expanded(block: slice) -> np.ndarray:
        rows = state.ranking.rows[block, : step.settings["num_expand"]]
        return expanded_embeddings(
            state.query.embeddings[block], state.gallery.embeddings, rows, step.settings["alpha"]
        )

    return _searched(step, state, deadline, expanded)


def _searched(
    step: Step, state: _State, deadline: Deadline, embeddings_of: Callable[[slice], np.ndarray]
) -> _State:
    """Searches again, with new embeddings of each block of queries; queries that are not reached keep ranking and embedding."""
    before, reached, embeddings = (
        state.ranking,
        np.zeros(len(state.query), bool),
        state.query.embeddings.copy(),
    )
    kept = slice(min(state.width, before.rows.shape[1]))
    rows, scores = (
        np.full((len(reached), state.width), -1, np.int32),
        np.zeros((len(reached), state.width), np.float32),
    )
    rows[:, kept], scores[:, kept] = before.rows[:, kept], before.scores[:, kept]
    block_size = (
        min(QUERIES_PER_SEARCH, 1 + len(reached) // FEWEST_BLOCKS)
        if deadline.is_limited
        else QUERIES_PER_SEARCH
    )
    for block in deadline.blocks(len(reached), block_size, what=step.name):
        embeddings[block] = embeddings_of(block)
        part = dataclasses.replace(
            state.query, ids=state.query.ids[block], embeddings=embeddings[block]
        )
        found = exact.search(part, state.gallery, state.width)
        here = (block, slice(found.rows.shape[1]))
        rows[here], scores[here], reached[block] = found.rows, found.scores, True
    for values in (rows, scores, embeddings):
        values.setflags(write=False)  # a record copies only what could still be written
    provenance = "; ".join(filter(None, (before.provenance, f"{step}, searched again")))
    ranking = dataclasses.replace(
        before, rows=rows, scores=scores, complete=reached, provenance=provenance
    )
    return dataclasses.replace(
        state, query=dataclasses.replace(state.query, embeddings=embeddings), ranking=ranking
    )


def _foreseen_s(
    steps: Sequence[Step], state: _State, deadline: Deadline, geometric: Geometric | None
) -> list[float]:
    """Seconds that each step roughly needs to be left, by what the first queries take; with room for its own caution."""
    if not deadline.is_limited or len(steps) == 1:
        return [0.0] * len(steps)
    num_queries, num_gallery, width = (
        len(state.query),
        len(state.gallery),
        state.ranking.rows.shape[1],
    )

    def search(block: slice) -> None:
        ids, embeddings = state.query.ids[block], state.query.embeddings[block]
        exact.search(
            dataclasses.replace(state.query, ids=ids, embeddings=embeddings), state.gallery, width
        )

    def foreseen_s(step: Step) -> float:
        if step.name != "geometric":
            return COSTS[step.name](
                num_queries, num_gallery, min(step.settings.get("top_k", width), width), search_s
            )
        assert geometric is not None
        verify, top_k = geometric, step.settings["top_k"]
        return num_queries * _seconds_per_query(
            lambda block: verify(state.ranking.block(block), top_k, deadline),
            TIMED_VERIFICATIONS,
            state,
            deadline,
        )

    search_s = _seconds_per_query(search, TIMED_SEARCHES, state, deadline)
    return [
        (1 + AFTERWARDS) * foreseen_s(step) + 2 * deadline.first_s for step in steps
    ]  # its parts begin with first_s left


def _seconds_per_query(
    work: Callable[[slice], object], count: int, state: _State, deadline: Deadline
) -> float:
    """Measured on the largest of the blocks of the first `count` queries; 0 where there is no time for any."""
    seconds, largest = 0.0, 0
    count = min(
        count, max(TIMED_VERIFICATIONS, int(TIMED_SHARE * len(state.query))), len(state.query)
    )
    for block in deadline.blocks(count, count, what="measuring"):
        begun, size = deadline.clock(), block.stop - block.start
        work(block)
        if size >= largest:
            seconds, largest = (deadline.clock() - begun) / size, size
    return seconds
