from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data_io.records import ImageList, LocalFeatures, Ranking
from delf_ext.reranking.deadline import Deadline
from delf_ext.reranking.geometric import GeometricConfig, rerank_geometric
from delf_ext.reranking.verifier import Verifier

NUM_QUERIES = 20
NUM_GALLERY = 30


def photographs(prefix: str, number: int) -> ImageList:
    ids = [f"{prefix}{row:02}" for row in range(number)]
    return ImageList(ids, [f"{name}.jpg" for name in ids])


def features_of(images: ImageList) -> LocalFeatures:
    """Return features in which images with the same number show the same 40 points."""
    points = []
    descriptors = []
    for name in images.ids:
        rng = np.random.default_rng(int(name[1:]))
        points.append(rng.uniform(0, 300, (40, 2)))
        vectors = rng.standard_normal((40, 16))
        descriptors.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    total = 40 * len(images)
    sizes = np.tile((300, 300), (len(images), 1))
    ones = np.ones(total, np.float32)
    offsets = np.arange(0, total + 1, 40)
    stacked = [np.array(parts, np.float32).reshape(total, -1) for parts in (points, descriptors)]
    return LocalFeatures(
        images.ids, offsets, sizes, stacked[0], ones, ones, stacked[1].astype(np.float16), "d"
    )


class Extraction:
    """Fake extraction: a new image takes a second by the injected clock, a known one no time."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.known = set[str]()
        self.asked = 0

    def clock(self) -> float:
        return self.now_s

    def __call__(
        self, query: ImageList, gallery: ImageList, deadline: Deadline
    ) -> list[tuple[LocalFeatures, LocalFeatures]]:
        has_time = deadline.time_check(first_s=1.0)
        self.asked = self.asked + 1
        for name in (*query.ids, *gallery.ids):
            if name not in self.known:
                if not has_time():
                    raise TimeoutError
                self.now_s += 1.0
                self.known.add(str(name))
        return [(features_of(query), features_of(gallery))]


@pytest.fixture
def ranking() -> Ranking:
    rng = np.random.default_rng(0)
    rows = np.stack([rng.permutation(NUM_GALLERY) for _ in range(NUM_QUERIES)])
    scores = -np.sort(-rng.uniform(0, 1, rows.shape), axis=1)
    return Ranking(
        photographs("q", NUM_QUERIES).ids,
        photographs("g", NUM_GALLERY).ids,
        rows,
        scores,
        provenance="plain",
    )


def verifier_for(extraction: Extraction) -> Verifier:
    return Verifier(
        photographs("q", NUM_QUERIES), photographs("g", NUM_GALLERY), extraction, GeometricConfig()
    )


def test_unlimited_equals_rerank_geometric_and_extracts_candidates_only(
    ranking: Ranking,
) -> None:
    extraction = Extraction()
    verifier = verifier_for(extraction)
    after = verifier(ranking, 2, Deadline())
    query, gallery = (
        features_of(photographs(prefix, number))
        for prefix, number in (("q", NUM_QUERIES), ("g", NUM_GALLERY))
    )
    expected, evidence = rerank_geometric(ranking, query, gallery, GeometricConfig(top_k=2))
    assert (
        (after.rows == expected.rows).all()
        and (after.scores == expected.scores).all()
        and after.complete.all()
    )
    assert (
        verifier.evidence is not None
        and (verifier.evidence.num_inliers == evidence.num_inliers).all()
    )
    candidates = {f"g{row:02}" for row in np.unique(ranking.rows[:, :2])}
    assert (
        extraction.asked == 1
        and {name for name in extraction.known if name[0] == "g"} == candidates
    )


@pytest.mark.parametrize("seconds", [0.0, 5.0, 12.0, 17.0, 29.0, 35.0, 1000.0])
def test_deadline_leaves_unreached_queries_unchanged(ranking: Ranking, seconds: float) -> None:
    whole = verifier_for(Extraction())(ranking, 4, Deadline())
    extraction = Extraction()
    verifier = verifier_for(extraction)
    after = verifier(ranking, 4, Deadline(seconds, extraction.clock))
    reached = int(after.complete.sum())
    assert extraction.now_s <= seconds and after.complete[:reached].all()
    assert (after.rows[:reached] == whole.rows[:reached]).all() and (
        after.rows[reached:] == ranking.rows[reached:]
    ).all()
    assert reached == {0.0: 0, 1000.0: 20}.get(seconds, reached) and (seconds < 12 or reached > 0)
    assert (
        verifier.evidence is not None
        and verifier.evidence.reasons().get("no time left", 0) == NUM_QUERIES - reached
    )


def test_incomplete_queries_stay_incomplete(ranking: Ranking) -> None:
    cut = dataclasses.replace(ranking, complete=np.arange(NUM_QUERIES) != 3)
    assert (verifier_for(Extraction())(cut, 2, Deadline()).complete == cut.complete).all()
