"""Images whose embedding failed: last in every ranking, and without influence on the others."""

from __future__ import annotations

import numpy as np
import pytest

from data_io.records import GlobalFeatures, GroundTruth, Ranking
from delf_ext.evaluation.hits import concatenate, hits_of
from delf_ext.evaluation.metrics import average_precisions, recalls_at_k
from delf_ext.features.query_copies import average_copies
from delf_ext.index.compact import compact_gallery, search_compact
from delf_ext.index.exact import search, search_blocks
from delf_ext.index.failed import FAILED_SCORE, usable, with_failed, without_failed
from delf_ext.reranking.chain import parse_chain, run_chain
from delf_ext.reranking.deadline import Deadline

FAILED_QUERIES = [1, 4]
FAILED_GALLERY = [0, 7, 8]


def features(name: str, count: int, failed: list[int], seed: int) -> GlobalFeatures:
    rng = np.random.default_rng(seed)
    # One half-space, so that a vector of zeros would not come last by itself.
    embeddings = rng.normal(size=(count, 8)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    is_failed = np.isin(np.arange(count), failed)
    embeddings[is_failed] = 0
    ids = np.array([f"{name}{row}" for row in range(count)])
    return GlobalFeatures(ids, embeddings, "m", is_failed)


@pytest.fixture
def query() -> GlobalFeatures:
    return features("q", 6, FAILED_QUERIES, 0)


@pytest.fixture
def gallery() -> GlobalFeatures:
    return features("g", 20, FAILED_GALLERY, 1)


def require_right(ranking: Ranking, expected: Ranking) -> None:
    """Check a ranking of all images against `expected`, one of the usable images."""
    ids = np.append(ranking.gallery_ids, "")
    wanted = iter(expected.gallery_ids[expected.rows].tolist())
    for row in range(6):
        found = ids[ranking.rows[row]].tolist()
        if row in FAILED_QUERIES:
            assert set(found) == {""}
        else:
            assert found == [*next(wanted), *(f"g{failed}" for failed in FAILED_GALLERY)]
    # The record checks order, pads and scores.
    Ranking(ranking.query_ids, ranking.gallery_ids, ranking.rows, ranking.scores, ranking.complete)


def test_search_puts_failed_images_last(query: GlobalFeatures, gallery: GlobalFeatures):
    ranking = search(query, gallery)
    require_right(ranking, search(usable(query), usable(gallery)))
    assert (ranking.scores[0, -3:] == FAILED_SCORE).all()
    # Usable images of negative similarity come before them.
    assert ranking.scores[0, -4] < 0
    assert search(query, gallery, 5).rows[0].tolist() == ranking.rows[0, :5].tolist()
    assert search(query, gallery, 18).rows[0].tolist() == ranking.rows[0, :18].tolist()
    blocks = list(search_blocks(query, gallery))
    assert np.array_equal(np.concatenate([block.rows for block in blocks]), ranking.rows)


def test_failed_query_scores_0_and_counts(query: GlobalFeatures, gallery: GlobalFeatures):
    relevant = tuple(np.array([3, 7]) for _ in range(6))
    truth = GroundTruth(query.ids, 20, relevant, tuple(np.zeros(0, int) for _ in range(6)))
    for hits in (
        hits_of(search(query, gallery), truth),
        concatenate([hits_of(block, truth) for block in search_blocks(query, gallery)]),
    ):
        precisions = average_precisions(hits)
        assert precisions[FAILED_QUERIES].tolist() == [0, 0]
        assert recalls_at_k(hits, 20)[FAILED_QUERIES].tolist() == [0, 0]
        assert (precisions[[0, 2, 3, 5]] > 0).all() and hits.num_relevant.tolist() == [2] * 6


@pytest.mark.parametrize(
    "method",
    [
        "aqe:3",
        "dba:4",
        "k_reciprocal:5,3,0.3",
        "diffusion:4,20",
        "dba:4,aqe:3@2,k_reciprocal:5,3,0.3",
    ],
)
@pytest.mark.parametrize("seconds", [None, 1000.0])
def test_failed_images_do_not_change_a_reranking(
    query: GlobalFeatures, gallery: GlobalFeatures, method: str, seconds: float | None
):
    steps = parse_chain(method)
    deadline = None if seconds is None else Deadline(seconds)
    first = search(usable(query), usable(gallery))
    expected = run_chain(steps, usable(query), usable(gallery), first, deadline)
    reranked = run_chain(steps, query, gallery, search(query, gallery), deadline)
    require_right(reranked, expected)
    assert reranked.provenance == expected.provenance


def test_geometric_step_gets_rankings_of_all_images(query: GlobalFeatures, gallery: GlobalFeatures):
    seen: list[Ranking] = []

    def turned(ranking: Ranking, top_k: int, deadline: Deadline) -> Ranking:
        seen.append(ranking)
        rows = np.where(ranking.rows < 0, -1, ranking.rows[:, ::-1])
        return Ranking.trusted(**{**vars(ranking), "rows": np.ascontiguousarray(rows)})

    before = search(query, gallery)
    after = run_chain(parse_chain("geometric"), query, gallery, before, verifier=turned)
    assert seen[0].gallery_ids.tolist() == gallery.ids.tolist() and len(seen[0]) == 6
    assert after.rows[0].tolist() == [*before.rows[0, 16::-1], *FAILED_GALLERY]


def test_part_and_whole_are_inverse(query: GlobalFeatures, gallery: GlobalFeatures):
    whole = search(query, gallery)
    part = without_failed(whole, query, gallery)
    assert (part.rows.shape, len(part.gallery_ids)) == ((4, 17), 17)
    assert np.array_equal(with_failed(part, query, gallery, 20).rows, whole.rows)


def test_all_queries_may_fail(gallery: GlobalFeatures):
    none = features("q", 3, [0, 1, 2], 0)
    ranking = search(none, gallery)
    assert (ranking.rows == -1).all()
    assert run_chain(parse_chain("aqe:3"), none, gallery, ranking).rows.tolist() == (
        ranking.rows.tolist()
    )


def test_copies_that_failed_do_not_count(query: GlobalFeatures):
    good = features("q", 6, [], 3)
    assert np.allclose(average_copies([good, query]).embeddings[1], good.embeddings[1])
    joined = average_copies([query, good])
    assert np.flatnonzero(joined.failed).tolist() == FAILED_QUERIES
    assert not joined.embeddings[FAILED_QUERIES].any()


def test_compact_gallery(query: GlobalFeatures, gallery: GlobalFeatures):
    with pytest.raises(ValueError, match="3 embeddings of the gallery failed, such as that of g0"):
        compact_gallery(gallery)
    left = usable(gallery)
    expected = search(query, left, 5)
    assert np.array_equal(search_compact(query, compact_gallery(left), 5).rows, expected.rows)


def test_record_checks_failed_rows():
    with pytest.raises(ValueError, match="must be of unit length. a has length 0"):
        GlobalFeatures(["a"], np.zeros((1, 2)))
    with pytest.raises(ValueError, match="of an image that failed must be zero"):
        GlobalFeatures(["a"], np.ones((1, 1)), "", [True])
    with pytest.raises(ValueError, match=r"failed must be \[N\]"):
        GlobalFeatures(["a"], np.ones((1, 1)), "", [True, False])
    assert GlobalFeatures(["a"], np.ones((1, 1))).failed.tolist() == [False]
