"""The main path: block-wise scoring equals scoring the whole ranking, skipped images leave ids and rows in step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_io.records import ImageList
from delf_ext.evaluation.metrics import hits_of
from delf_ext.pipeline import embed, rank, rerank, score, truth_of, width_in_memory
from delf_ext.reranking.chain import parse_chain, run_chain
from delf_ext.reranking.deadline import Deadline


@dataclass(frozen=True)
class MeanColour:
    """A real, if modest, model."""

    image_size: int = 8
    digest: str = "mean colour"

    def embed(self, images: np.ndarray) -> np.ndarray:
        return images.astype(np.float32).mean(axis=(1, 2)) - 127.0


@pytest.fixture
def photographs(tmp_path: Path) -> ImageList:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (4, 3))
    paths, labels = [], []
    for i in range(12):
        pixels = np.clip(colours[i % 4] + rng.integers(-9, 10, (16, 16, 3)), 0, 255).astype(np.uint8)
        paths.append(str(tmp_path / f"{i:02}.png"))
        labels.append(i % 4)
        Image.fromarray(pixels).save(paths[-1])
    Path(paths[5]).write_bytes(b"no picture")
    return ImageList([Path(path).stem for path in paths], paths, labels)


def test_blockwise_score_equals_the_whole_ranking(photographs: ImageList) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    truth = truth_of(retrieval)
    hits = score(retrieval, truth)
    whole = hits_of(rank(retrieval, top_k=None), truth)
    assert all(np.array_equal(a, b) for a, b in zip(hits.positions, whole.positions, strict=True))
    assert np.all(hits.num_relevant >= 1)


def test_a_bad_photograph_is_skipped_once_and_rows_stay_in_step(photographs: ImageList) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    assert retrieval.query is retrieval.gallery and len(retrieval.gallery) == 11
    assert [Path(path).stem for path, _ in retrieval.skipped] == ["05"]
    ranking = rank(retrieval, top_k=1)
    assert ranking.gallery_ids[ranking.rows[:, 0]].tolist() == retrieval.query.ids.tolist()  # each is its own nearest


def test_other_queries_than_the_gallery(photographs: ImageList) -> None:
    query, gallery = photographs.take([0, 1, 2, 3]), photographs.take([4, 6, 7, 8, 9, 10, 11])
    retrieval = embed(MeanColour(), query, gallery, batch_size=4)
    truth = truth_of(retrieval)
    hits = score(retrieval, truth)
    assert truth.num_gallery == 7 and all(len(junk) == 0 for junk in truth.junk)
    assert all(positions[0] == 0 for positions in hits.positions)  # the colours are far apart


def test_what_time_does_not_reach_is_skipped_and_listed(photographs: ImageList) -> None:
    query, gallery = photographs.take([0, 1, 2, 3]), photographs.take([4, 6, 7, 8, 9, 10, 11])
    clock = iter([0.0, *np.arange(100.0)])  # each look at the clock is a second later
    retrieval = embed(MeanColour(), query, gallery, batch_size=2, deadline=Deadline(6.0, lambda: next(clock)))
    assert len(retrieval.query) == 4 and 0 < len(retrieval.gallery) < 7
    assert len(retrieval.gallery) + len(retrieval.skipped) == 7 and {why for _, why in retrieval.skipped} == {"no time left"}
    with pytest.raises(TimeoutError, match="no time left to embed the first of 4 images"):
        embed(MeanColour(), query, gallery, deadline=Deadline(0))


def test_copies_of_queries_are_averaged(photographs: ImageList) -> None:
    query, gallery = photographs.take([0, 1]), photographs.take([4, 6, 7])
    plain, turned = (embed(MeanColour(), query, gallery, 2, copies) for copies in ((), ("mirror", "turn90")))
    np.testing.assert_allclose(plain.query_features.embeddings, turned.query_features.embeddings, atol=1e-6)  # colours stay
    assert (plain.gallery_features.embeddings == turned.gallery_features.embeddings).all()


def test_rerank_is_the_chain_and_large_rankings_are_cut(photographs: ImageList, monkeypatch: pytest.MonkeyPatch) -> None:
    retrieval = embed(MeanColour(), photographs, photographs, batch_size=5)
    plain = rank(retrieval, width_in_memory(retrieval))
    assert plain.rows.shape == (11, 11)
    steps = parse_chain("aqe:2,k_reciprocal:4,2")
    expected = run_chain(steps, retrieval.query_features, retrieval.gallery_features, plain)
    np.testing.assert_array_equal(rerank(retrieval, plain, steps).rows, expected.rows)
    monkeypatch.setattr("delf_ext.pipeline.PLACES_IN_MEMORY", 100)
    monkeypatch.setattr("delf_ext.pipeline.KEPT_PER_QUERY", 4)
    assert width_in_memory(retrieval) == 4
