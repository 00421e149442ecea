from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_io.records import GroundTruth, LocalFeatures, Ranking
from delf_ext.config import UsageError
from delf_ext.evaluation.hits import hits_of
from delf_ext.evaluation.metrics import average_precisions, recalls_at_k
from delf_ext.geometry.verification import VerifyConfig
from delf_ext.reranking import geometric
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.evidence import Evidence
from delf_ext.reranking.geometric import GeometricConfig, pair_key, rerank_geometric

DIM = 32
NUM_GALLERY = 12
SIZE_PX = (400, 300)


def planted(
    ids: Sequence[str], objects: Sequence[int], counts: Sequence[int], seed: int, digest: str = "d"
) -> LocalFeatures:
    """Return features in which image i shows the first counts[i] points of objects[i].

    Each image shows its object under another similarity transform; object -1 is noise.
    """
    rng = np.random.default_rng(seed)
    points = []
    descriptors = []
    for shown, count in zip(objects, counts):
        own = np.random.default_rng(1000 + shown if shown >= 0 else int(rng.integers(10**6)))
        place = own.uniform(60, 240, (80, 2))[:count]
        vectors = own.standard_normal((80, DIM))[:count]
        angle = rng.uniform(-0.3, 0.3)
        scale = rng.uniform(0.8, 1.0)
        shift = rng.uniform(40, 60, 2)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points.append(np.clip((place - 150) @ turn.T + 110 + shift, 0, np.array(SIZE_PX) - 1))
        vectors = vectors / np.linalg.norm(
            vectors, axis=1, keepdims=True
        ) + 0.02 * rng.standard_normal(vectors.shape)
        descriptors.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    total = int(sum(counts))
    return LocalFeatures(
        ids,
        np.concatenate([[0], np.cumsum(counts)]),
        np.tile(SIZE_PX, (len(ids), 1)),
        np.concatenate(points).astype(np.float32),
        np.full(total, 20, np.float32),
        np.ones(total, np.float32),
        np.concatenate(descriptors).astype(np.float16).reshape(total, DIM),
        digest,
    )


class Scene:
    """Four queries and 12 gallery images; gallery image i shows object i.

    Query 0 shows object 5, query 1 object 3, query 2 an object that is not in the gallery; query 3
    has five features.
    """

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.query_ids = [f"q{row}" for row in range(4)]
        self.gallery_ids = [f"g{row}" for row in range(NUM_GALLERY)]
        self.query = planted(self.query_ids, (5, 3, -1, 7), (60, 40, 60, 5), seed)
        self.gallery = planted(self.gallery_ids, range(NUM_GALLERY), [80] * NUM_GALLERY, seed + 1)
        rows = np.stack([rng.permutation(NUM_GALLERY) for _ in range(4)])
        scores = -np.sort(-rng.uniform(-1, 1, rows.shape), axis=1)
        self.ranking = Ranking(
            self.query_ids,
            self.gallery_ids,
            rows,
            scores,
            [True, False, True, True],
            "exact cosine",
        )
        truth = ([5], [3], [], [7])
        self.truth = GroundTruth(
            self.query_ids, NUM_GALLERY, tuple(map(np.array, truth)), ([],) * 4
        )


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def test_images_of_the_same_object_come_first(scene: Scene) -> None:
    ranking, evidence = rerank_geometric(scene.ranking, scene.query, scene.gallery)
    assert ranking.rows[:2, 0].tolist() == [5, 3]
    assert (
        evidence.num_inliers[0, 0] >= 45
        and evidence.num_inliers[1, 0] >= 30
        and evidence.scores[0, 0] > 10
    )
    assert evidence.accepted.sum(axis=1).tolist() == [1, 1, 0, 0] and evidence.accepted[:2, 0].all()
    assert (evidence.rows == ranking.rows).all() and evidence.left_alone.tolist()[:2] == ["", ""]
    assert evidence.reasons() == {"no candidate accepted": 1, "too few features": 1}
    assert (evidence.num_inliers[3] == -1).all() and (evidence.num_inliers[:3] >= 0).all()
    assert (
        evidence.inliers_of(0)[5] == (evidence.num_inliers[0, 0], True)
        and evidence.inliers_of(3) == {}
    )
    assert np.nanmean(average_precisions(hits_of(ranking, scene.truth))[:2]) == 1.0


def test_scores_are_best_similarity_plus_evidence(scene: Scene) -> None:
    ranking, evidence = rerank_geometric(scene.ranking, scene.query, scene.gallery)
    best = scene.ranking.scores[0, 0]
    assert ranking.scores[0, 0] == pytest.approx(best + evidence.num_inliers[0, 0])
    old = dict(zip(scene.ranking.rows[0].tolist(), scene.ranking.scores[0].tolist()))
    assert [old[row] for row in ranking.rows[0, 1:].tolist()] == ranking.scores[0, 1:].tolist()
    combined, evidence = rerank_geometric(
        scene.ranking, scene.query, scene.gallery, GeometricConfig(order="combined")
    )
    assert combined.scores[0, 0] == pytest.approx(best + evidence.scores[0, 0], rel=1e-5)
    assert combined.rows.tolist() == ranking.rows.tolist()


def test_provenance_and_completeness_are_kept(scene: Scene) -> None:
    ranking, _ = rerank_geometric(
        scene.ranking,
        scene.query,
        scene.gallery,
        GeometricConfig(top_k=50, verify=(VerifyConfig(accepted_from=15),)),
    )
    assert ranking.complete.tolist() == [True, False, True, True]
    assert (
        ranking.provenance
        == "exact cosine; top 50 re-ranked geometrically by inliers, accepted from 15 inliers"
    )


@settings(max_examples=15)
@given(
    seed=st.integers(0, 99),
    top_k=st.integers(1, 15),
    width=st.integers(0, NUM_GALLERY),
    padded=st.integers(0, 4),
    order=st.sampled_from(["inliers", "combined"]),
)
def test_head_is_permuted_and_tail_unchanged(
    seed: int, top_k: int, width: int, padded: int, order: str
) -> None:
    scene = Scene(seed)
    rows = scene.ranking.rows[:, :width].copy()
    scores = scene.ranking.scores[:, :width].copy()
    rows[1, width - min(padded, width) :] = -1
    before = Ranking(scene.query_ids, scene.gallery_ids, rows, scores)
    after, evidence = rerank_geometric(
        before, scene.query, scene.gallery, GeometricConfig(top_k=top_k, order=order)
    )
    assert (np.sort(after.rows[:, :top_k]) == np.sort(before.rows[:, :top_k])).all()
    assert (after.rows[:, top_k:] == before.rows[:, top_k:]).all() and (
        after.scores[:, top_k:] == before.scores[:, top_k:]
    ).all()
    assert (after.rows[2:] == before.rows[2:]).all() and (
        after.scores[2:] == before.scores[2:]
    ).all()
    assert (
        evidence.num_inliers.shape == (4, min(top_k, width))
        and (evidence.accepted <= (evidence.num_inliers >= 12)).all()
    )
    old = hits_of(before, scene.truth)
    new = hits_of(after, scene.truth)
    for k in range(top_k, NUM_GALLERY + 1):
        np.testing.assert_array_equal(recalls_at_k(old, k), recalls_at_k(new, k))
    place = {row: column for column, row in enumerate(before.rows[0].tolist())}
    others = [
        place[row] for row, good in zip(evidence.rows[0].tolist(), evidence.accepted[0]) if not good
    ]
    assert others == sorted(others)  # others keep their order


def test_accepted_are_sorted_by_inliers_then_global_score() -> None:
    ids = ["few", "many", "noise", "as many"]
    gallery = planted(ids, (0, 0, -1, 0), (25, 70, 60, 70), 1)
    query = planted(["q"], (0,), (70,), 2)
    rows = [[0, 2, 3, 1]]
    scores = [[0.9, 0.8, 0.8, 0.1]]
    ranking, evidence = rerank_geometric(Ranking(["q"], ids, rows, scores), query, gallery)
    assert set(ranking.rows[0, :2].tolist()) == {1, 3} and ranking.rows[0, 2:].tolist() == [0, 2]
    first, second = evidence.num_inliers[0, :2]
    assert first >= second > 40 and (first > second or ranking.rows[0, 0] == 3)


def test_result_depends_on_the_pair_only(scene: Scene) -> None:
    whole, whole_evidence = rerank_geometric(scene.ranking, scene.query, scene.gallery)
    turned = scene.ranking.rows[:, ::-1]
    again, evidence_again = rerank_geometric(
        Ranking(["q1", "q0"], scene.gallery_ids, turned[[1, 0]], scene.ranking.scores[:2]),
        scene.query,
        scene.gallery,
    )
    assert whole_evidence.inliers_of(0) == evidence_again.inliers_of(
        1
    ) and whole_evidence.inliers_of(1) == evidence_again.inliers_of(0)
    assert whole.rows[0, 0] == again.rows[1, 0]


def test_pair_key_golden() -> None:
    golden = bytes.fromhex("ffc151170352baa3")  # printf 'a\0b' | b2sum -l 64 (coreutils)
    assert pair_key("a", "b") == int.from_bytes(golden, "little") >> 1
    assert (
        len({pair_key("a", "b"), pair_key("b", "a"), pair_key("ab", ""), pair_key("", "ab")}) == 4
    )


def test_inliers_of_extractors_are_summed(scene: Scene) -> None:
    other_query = planted(scene.query_ids, (5, -1, -1, 7), (60, 60, 60, 60), 5, "sift")
    other_gallery = planted(scene.gallery_ids, range(NUM_GALLERY), [80] * NUM_GALLERY, 6, "sift")
    one = rerank_geometric(scene.ranking, scene.query, scene.gallery)[1]
    two = rerank_geometric(scene.ranking, other_query, other_gallery)[1]
    both_ranking, both = rerank_geometric(
        scene.ranking, [scene.query, other_query], [scene.gallery, other_gallery]
    )
    for query in range(3):
        alone = one.inliers_of(query)
        other = two.inliers_of(query)
        assert {row: pair[0] for row, pair in both.inliers_of(query).items()} == {
            r: alone[r][0] + other[r][0] for r in alone
        }
    # The first extractor has too few features in query 3.
    assert both_ranking.rows[3, 0] == 7 and both.left_alone[3] == ""
    assert {row: pair[0] for row, pair in both.inliers_of(3).items()} == {
        row: pair[0] for row, pair in two.inliers_of(3).items()
    }
    np.testing.assert_allclose(both.scores[0, 0], one.scores[0, 0] + two.scores[0, 0], rtol=1e-5)


def test_images_without_features_keep_their_place(scene: Scene) -> None:
    query = planted(["q0", "q1"], (5, 3), (60, 0), 0)
    gallery = planted(["g5", "g4"], (5, -1), (80, 0), 1)
    ranking, evidence = rerank_geometric(scene.ranking, query, gallery)
    assert (
        ranking.rows[0, 0] == 5
        and sorted(evidence.inliers_of(0)) == [4, 5]
        and evidence.inliers_of(0)[4] == (0, False)
    )
    assert (ranking.rows[1:] == scene.ranking.rows[1:]).all() and (
        ranking.scores[1:] == scene.ranking.scores[1:]
    ).all()
    assert evidence.reasons() == {"no local features": 2, "too few features": 1}
    # No query of this block has features.
    _, evidence = rerank_geometric(scene.ranking, planted(["x"], (0,), (60,), 0), gallery)
    assert evidence.reasons() == {"no local features": 4}


def test_query_in_the_gallery_finds_itself(scene: Scene) -> None:
    rows = [[i, (i + 1) % NUM_GALLERY, (i + 2) % NUM_GALLERY] for i in range(NUM_GALLERY)]
    ranking = Ranking(
        scene.gallery_ids, scene.gallery_ids, rows, np.tile([1.0, 0.5, 0.5], (NUM_GALLERY, 1))
    )
    after, evidence = rerank_geometric(ranking, scene.gallery, scene.gallery)
    assert (after.rows == ranking.rows).all() and (evidence.num_inliers[:, 0] >= 75).all()


def test_joined_blocks_equal_the_whole(scene: Scene) -> None:
    whole, whole_evidence = rerank_geometric(scene.ranking, scene.query, scene.gallery)
    blocks = []
    for part in (slice(0, 1), slice(1, 4)):
        rows = scene.ranking.rows[part]
        scores = scene.ranking.scores[part]
        ranking = Ranking(
            scene.ranking.query_ids[part],
            scene.gallery_ids,
            rows,
            scores,
            provenance="exact cosine",
        )
        blocks.append(rerank_geometric(ranking, scene.query, scene.gallery))
    joined = Ranking.joined([block[0] for block in blocks])
    evidence = Evidence.joined([block[1] for block in blocks])
    assert (
        (joined.rows == whole.rows).all()
        and (joined.scores == whole.scores).all()
        and joined.provenance == whole.provenance
    )
    assert (evidence.num_inliers == whole_evidence.num_inliers).all() and (
        evidence.left_alone == whole_evidence.left_alone
    ).all()


@pytest.mark.parametrize("reached", range(5))
def test_deadline_stops_between_queries(
    scene: Scene, reached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, whole_evidence = rerank_geometric(scene.ranking, scene.query, scene.gallery)
    verified = []

    def verify_one(*args: Any) -> Any:
        verified.append(args[0])
        return usual(*args)

    usual = geometric._verified
    monkeypatch.setattr(geometric, "_verified", verify_one)
    deadline = Deadline(10.0 if reached else 0.0, lambda: 100.0 * (len(verified) >= reached > 0))
    ranking, evidence = rerank_geometric(
        scene.ranking, scene.query, scene.gallery, deadline=deadline
    )
    done = slice(reached)
    rest = slice(reached, None)
    assert verified == scene.query_ids[done] and ranking.complete.tolist() == [
        reached > 0,
        False,
        reached > 2,
        reached > 3,
    ]
    for name in ("rows", "scores"):
        assert (getattr(ranking, name)[done] == getattr(whole, name)[done]).all()
        assert (getattr(ranking, name)[rest] == getattr(scene.ranking, name)[rest]).all()
    assert (evidence.num_inliers[done] == whole_evidence.num_inliers[done]).all() and (
        evidence.num_inliers[rest] == -1
    ).all()
    assert (evidence.rows == ranking.rows).all() and (
        evidence.left_alone[rest] == "no time left"
    ).all()
    assert (evidence.left_alone[done] == whole_evidence.left_alone[done]).all()


def test_refuses_wrong_settings_and_features(scene: Scene) -> None:
    with pytest.raises(
        ValueError, match="one set of gallery features per set of query features. Received 1 and 2."
    ):
        rerank_geometric(scene.ranking, scene.query, [scene.gallery, scene.gallery])
    stale = planted(scene.gallery_ids, range(NUM_GALLERY), [80] * NUM_GALLERY, 1, "other")
    with pytest.raises(
        ValueError,
        match=r"made by model d \(32-D\), gallery features by other \(32-D\): extract both",
    ):
        rerank_geometric(scene.ranking, scene.query, stale)
    with pytest.raises(ValueError, match="none of 12 gallery images has local features: were they"):
        rerank_geometric(scene.ranking, scene.query, planted(["x"], (0,), (80,), 1))
    with pytest.raises(UsageError, match="top_k must be at least 1. Received 0."):
        GeometricConfig(top_k=0)
    with pytest.raises(UsageError, match="order is inliers or combined. Received 'score'."):
        GeometricConfig(order="score")
    with pytest.raises(
        ValueError, match=r"evidence must be \[Q, k\] in every field for 1 queries."
    ):
        Evidence(np.array(["q"]), *np.zeros((4, 2, 3)), np.array([""]))


def test_each_extractor_uses_its_own_settings(scene: Scene) -> None:
    """An extractor that accepts nothing does not change what the other accepts."""
    twice = ([scene.query] * 2, [scene.gallery] * 2)
    never = VerifyConfig(accepted_from=10**6)
    one, _ = rerank_geometric(scene.ranking, scene.query, scene.gallery, GeometricConfig(top_k=50))
    both, evidence = rerank_geometric(
        scene.ranking, *twice, GeometricConfig(top_k=50, verify=(VerifyConfig(), never))
    )
    neither, _ = rerank_geometric(scene.ranking, *twice, GeometricConfig(top_k=50, verify=(never,)))
    np.testing.assert_array_equal(both.rows, one.rows)
    np.testing.assert_array_equal(neither.rows, scene.ranking.rows)
    assert evidence.accepted.any()
    with pytest.raises(
        ValueError, match="one way to verify, or one per extractor. Received 3 for 2 extractors"
    ):
        rerank_geometric(scene.ranking, *twice, GeometricConfig(verify=(never,) * 3))
