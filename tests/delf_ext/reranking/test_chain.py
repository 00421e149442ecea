from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.records import GlobalFeatures, Ranking
from delf_ext.index import exact
from delf_ext.index.neighbours import nearest_neighbours
from delf_ext.reranking import chain, diffusion
from delf_ext.reranking.chain import parse_chain, run_chain
from delf_ext.reranking.database_augmentation import augment_database
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.diffusion import DiffusionConfig, rerank_by_diffusion
from delf_ext.reranking.k_reciprocal import rerank_k_reciprocal
from delf_ext.reranking.query_expansion import expanded_embeddings
from delf_ext.reranking.rankings import reranked

ALL_METHODS = ("dba:4", "aqe:3@3", "k_reciprocal:8,3,0.3", "diffusion:6,20", "geometric:7")


def expand(
    query: GlobalFeatures,
    gallery: GlobalFeatures,
    ranking: Ranking,
    num_expand: int,
    alpha: float = 0.0,
) -> GlobalFeatures:
    rows = ranking.rows[:, :num_expand]
    embeddings = expanded_embeddings(query.embeddings, gallery.embeddings, rows, alpha)
    return GlobalFeatures(query.ids, embeddings, query.digest)


def clustered(seed: int, num_images: int, prefix: str) -> GlobalFeatures:
    rng = np.random.default_rng(seed)
    num_dims = 8
    centres = np.random.default_rng(7).standard_normal((5, num_dims))
    vectors = centres[rng.integers(0, 5, num_images)] + 0.8 * rng.standard_normal(
        (num_images, num_dims)
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return GlobalFeatures(
        [f"{prefix}{row}" for row in range(num_images)], vectors.astype(np.float32)
    )


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def costs(self, work: Callable[..., Any], seconds: Callable[..., float]) -> Callable[..., Any]:
        """Return the same work, which advances this clock."""

        def worked(*args: Any, **named: Any) -> Any:
            self.now_s += seconds(*args)
            return work(*args, **named)

        return worked


def turned(
    ranking: Ranking,
    top_k: int,
    deadline: Deadline,
    clock: Clock | None = None,
    query_s: float = 0.0,
) -> Ranking:
    """Fake geometric verification: reverse the first candidates, one query at a time."""
    rows = ranking.rows.copy()
    reached = np.zeros(len(ranking.rows), bool)
    for block in deadline.blocks(len(rows), 1):
        rows[block, :top_k] = rows[block, :top_k][:, ::-1]
        reached[block] = True
        if clock is not None:
            clock.now_s += query_s
    return reranked(ranking, rows, ranking.scores, reached, "turned")


def same(first: Ranking, second: Ranking) -> bool:
    return bool((first.rows == second.rows).all() and (first.scores == second.scores).all())


@pytest.fixture(scope="module")
def images() -> tuple[GlobalFeatures, GlobalFeatures, Ranking]:
    query = clustered(1, 20, "q")
    gallery = clustered(2, 60, "g")
    return query, gallery, exact.search(query, gallery)


Images = tuple[GlobalFeatures, GlobalFeatures, Ranking]


def test_empty_chain_or_ranking_changes_nothing(images: Images) -> None:
    assert run_chain((), *images) is images[2]
    query, gallery, ranking = images
    empty = GlobalFeatures([], np.zeros((0, 8), np.float32))
    for nothing in (
        (query, gallery, ranking.cut(0)),
        (empty, gallery, Ranking([], gallery.ids, np.zeros((0, 9)), np.zeros((0, 9)))),
    ):
        assert run_chain(parse_chain("aqe:5,k_reciprocal"), *nothing) is nothing[2]


def test_chain_equals_its_steps_by_hand(images: Images) -> None:
    query, gallery, ranking = images
    augmented = augment_database(gallery, 4)
    after_dba = exact.search(query, augmented)
    expanded = expand(query, augmented, after_dba, 3, 3.0)
    after_aqe = exact.search(expanded, augmented)
    assert same(run_chain(parse_chain("dba:4"), *images), after_dba)
    assert same(run_chain(parse_chain("dba:4,aqe:3@3"), *images), after_aqe)
    after_k_reciprocal = rerank_k_reciprocal(after_aqe, expanded, augmented, 8, 3, 0.3)
    assert same(
        run_chain(parse_chain("dba:4,aqe:3@3,k_reciprocal:8,3"), *images), after_k_reciprocal
    )
    after_diffusion = rerank_by_diffusion(
        after_aqe, expanded, augmented, DiffusionConfig(k=6, top_k=20)
    )
    assert same(run_chain(parse_chain("dba:4,aqe:3@3,diffusion:6,20"), *images), after_diffusion)
    verified = turned(ranking, 7, Deadline(None))
    expanded = expand(query, gallery, verified, 3)
    chained = run_chain(parse_chain("geometric:7,aqe:3"), *images, verifier=turned)
    assert same(chained, exact.search(expanded, gallery)) and not same(
        chained, run_chain(parse_chain("aqe:3"), *images)
    )


@settings(max_examples=25)
@given(
    st.integers(0, 99),
    st.lists(st.sampled_from(ALL_METHODS), max_size=4),
    st.integers(1, 12),
    st.integers(1, 40),
)
def test_every_chain_permutes_the_candidates(
    seed: int, names: list[str], num_queries: int, num_gallery: int
) -> None:
    query = clustered(seed, num_queries, "q")
    gallery = clustered(seed + 100, num_gallery, "g")
    before = exact.search(query, gallery)
    for deadline in (None, Deadline(1e9)):
        after = run_chain(parse_chain(",".join(names)), query, gallery, before, deadline, turned)
        assert (np.sort(after.rows, axis=1) == np.sort(before.rows, axis=1)).all()
        assert after.complete.all()
        dataclasses.replace(after)  # checks every field
    if names and names[-1] == "geometric:7":
        earlier = run_chain(parse_chain(",".join(names[:-1])), query, gallery, before, None, turned)
        assert (np.sort(after.rows[:, :7]) == np.sort(earlier.rows[:, :7])).all() and (
            after.rows[:, 7:] == earlier.rows[:, 7:]
        ).all()


def test_identical_images_keep_their_order() -> None:
    ones = np.full((9, 4), 0.5, np.float32)
    query = GlobalFeatures(["q0", "q1"], ones[:2])
    gallery = GlobalFeatures([f"g{row}" for row in range(9)], ones)
    before = exact.search(query, gallery)
    after = run_chain(
        parse_chain("dba:3,aqe:3@3,k_reciprocal:4,2,diffusion:4,9,aqe:20"), query, gallery, before
    )
    assert (after.rows == before.rows).all()


def test_cut_ranking_keeps_its_width_and_padding(images: Images) -> None:
    query, gallery, ranking = images
    wide = Ranking(
        query.ids,
        gallery.ids,
        np.pad(ranking.rows, ((0, 0), (0, 2)), constant_values=-1),
        np.pad(ranking.scores, ((0, 0), (0, 2))),
    )
    after = run_chain(parse_chain("aqe:3,diffusion:6,20"), query, gallery, wide)
    assert (
        after.rows.shape == (20, 62)
        and (after.rows[:, 60:] == -1).all()
        and (after.rows[:, :60] >= 0).all()
    )
    assert run_chain(parse_chain("dba:3,aqe:3"), query, gallery, ranking.cut(5)).rows.shape == (
        20,
        5,
    )


def test_provenance_names_each_step(images: Images) -> None:
    after = run_chain(parse_chain("aqe:3@3,diffusion:6,20,geometric:7"), *images, verifier=turned)
    assert after.provenance == (
        "exact cosine, top 60; aqe:3@3, searched again (20 of 20 queries); "
        "top 20 re-ranked by diffusion over 6 mutual neighbours, alpha 0.99 (20 of 20 queries); "
        "turned (20 of 20 queries)"
    )


def test_incomplete_queries_stay_incomplete(images: Images) -> None:
    query, gallery, ranking = images
    ranking = dataclasses.replace(ranking, complete=np.arange(20) != 3)
    after = run_chain(parse_chain("aqe:3"), query, gallery, ranking)
    assert (after.complete == ranking.complete).all() and "(20 of 20 queries)" in after.provenance


class Costly:
    """Steps that take time by an injected clock.

    A search takes 5 ms and 1 ms per query, neighbours take 20 steps, a verification 10 ms.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, step_s: float = 0.004, verify_s: float = 0.01
    ) -> None:
        self.clock = Clock()
        self.verify_s = verify_s

        def neighbours(embeddings: np.ndarray, k: int, give_up: Callable[[float], bool]) -> Any:
            for done in range(1, 21):
                self.clock.now_s += step_s
                if give_up(done / 20):
                    raise TimeoutError
            return nearest_neighbours(embeddings, k)

        searching = self.clock.costs(exact.search, lambda query, *_: 0.005 + 0.001 * len(query))
        monkeypatch.setattr(chain, "_compile", lambda *_: None)
        monkeypatch.setattr(chain.exact, "search", searching)
        for module in (chain, diffusion):
            monkeypatch.setattr(module, "nearest_neighbours", neighbours)
        solving = self.clock.costs(diffusion.conjugate_gradients, lambda *_: 0.003)
        monkeypatch.setattr(diffusion, "conjugate_gradients", solving)

    def geometric(self, ranking: Ranking, top_k: int, deadline: Deadline) -> Ranking:
        return turned(ranking, top_k, deadline, self.clock, self.verify_s)


@pytest.mark.parametrize(
    "text",
    ["dba:4,aqe:3@3,geometric:7", "geometric:7,diffusion:6,20,aqe:3", "aqe:3,aqe:3,geometric:7"],
)
def test_every_budget_gives_a_valid_ranking_in_time(
    images: Images, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    query, gallery, plain = images
    whole = run_chain(parse_chain(text), *images, verifier=turned)
    num_reached = []
    costly = Costly(monkeypatch)
    for budget_s in (0.0, *np.arange(0.13, 2.0, 0.05)):
        costly.clock.now_s = 0.0
        after = run_chain(
            parse_chain(text), *images, Deadline(budget_s, costly.clock), costly.geometric
        )
        assert costly.clock.now_s <= budget_s
        assert (np.sort(after.rows, axis=1) == np.sort(plain.rows, axis=1)).all()
        counts = [int(count) for count in re.findall(r"\((\d+) of 20 queries\)", after.provenance)]
        assert len(counts) == 3 and after.complete.sum() <= min(counts)
        assert (after.rows[after.complete] == whole.rows[after.complete]).all()
        num_reached.append(sum(counts))
        if budget_s == 0:
            assert same(after, plain) and counts == [0, 0, 0]
    assert num_reached[-1] == 60 and same(after, whole) and len(set(num_reached)) > 6


def test_expensive_step_leaves_time_for_a_later_cheap_step(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    costly = Costly(monkeypatch, verify_s=0.1)
    after = run_chain(
        parse_chain("geometric:7,aqe:3"), *images, Deadline(2.0, costly.clock), costly.geometric
    )
    verified, expanded = map(int, re.findall(r"\((\d+) of 20 queries\)", after.provenance))
    assert expanded == 20 and 8 <= verified < 20 and costly.clock.now_s <= 2.0


def test_step_that_cannot_end_leaves_its_time_to_the_next(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    costly = Costly(monkeypatch, step_s=0.1)
    after = run_chain(
        parse_chain("dba:4,geometric:7"), *images, Deadline(1.2, costly.clock), costly.geometric
    )
    assert [int(count) for count in re.findall(r"\((\d+) of 20 queries\)", after.provenance)] == [
        0,
        20,
    ]
    assert not after.complete.any() and same(after, turned(images[2], 7, Deadline(None)))


def test_later_steps_use_the_embeddings_of_earlier_steps(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    query, gallery, ranking = images
    expanded = expand(query, gallery, ranking, 3)
    costly = Costly(monkeypatch)
    seen: list[np.ndarray] = []

    def spread(ranking: Ranking, query: GlobalFeatures, *_: Any, **__: Any) -> Ranking:
        seen.append(query.embeddings)
        return ranking

    monkeypatch.setattr(chain, "rerank_by_diffusion", spread)
    after = run_chain(parse_chain("aqe:3,diffusion"), *images, Deadline(0.07, costly.clock))
    reached = int(after.complete.sum())
    assert 0 < reached < 20
    np.testing.assert_array_equal(
        seen[-1], np.concatenate([expanded.embeddings[:reached], query.embeddings[reached:]])
    )


def test_no_step_runs_without_time(images: Images) -> None:
    def never(*_: Any) -> Ranking:
        raise AssertionError("called")

    after = run_chain(parse_chain("geometric:7,aqe:3"), *images, Deadline(0), never)
    assert same(after, images[2]) and not after.complete.any()
    assert (
        after.provenance
        == "exact cosine, top 60; geometric:7 (0 of 20 queries); aqe:3@0 (0 of 20 queries)"
    )


def test_chain_does_not_wait_for_slow_compiling(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(chain, "_compile", lambda *_: released.wait(5.0))
    after = run_chain(parse_chain("aqe:3"), *images, Deadline(0.5))
    released.set()
    assert same(after, images[2]) and not after.complete.any()


def test_search_before_aqe_fills_only_the_places_it_uses(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_chain(parse_chain("dba:4,aqe:3"), *images, Deadline(1e9))
    widths = []
    search = exact.search

    def searched(query: GlobalFeatures, gallery: GlobalFeatures, k: int) -> Ranking:
        widths.append(k)
        return search(query, gallery, k)

    monkeypatch.setattr(chain.exact, "search", searched)
    assert same(run_chain(parse_chain("dba:4,aqe:3"), *images), whole) and widths == [3, 60]


def test_refuses_missing_geometric_and_other_images(images: Images) -> None:
    query, gallery, ranking = images
    with pytest.raises(
        ValueError,
        match="the geometric step needs local features of queries and gallery. Received none.",
    ):
        run_chain(parse_chain("geometric"), *images)
    with pytest.raises(ValueError, match="the ranking has other gallery images than the features"):
        run_chain((), query, clustered(2, 61, "g"), ranking)
